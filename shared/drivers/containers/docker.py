"""Containers of a Docker engine, also of Podman through its socket.

All state is in the engine: a new instance takes over every container of its installation, which is a name given by the
configuration. Names in the engine are `<installation>-<name>`; only containers with the label of the installation are
listed, stopped or removed.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time

from shared.drivers.containers.docker_engine import Engine, TakenError
from shared.drivers.containers.docker_files import give_files
from shared.drivers.containers.docker_request import create_body, engine_user, job_user
from shared.drivers.containers.docker_template import INSTALLATION, NAME, PREFIX, engine_name
from shared.drivers.containers.docker_view import Inspected, describe, isolated, never_ran, resident_bytes, runs
from shared.drivers.containers.port import ContainerError, ContainerInfo, ContainerSpec
from shared.processes.identity import PROC, ProcessIdentity, identify, wait_ended

PORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
TIMEOUT_S = 30.0
UNPRIVILEGED = "65532:65532"  #: nobody's by convention
LAUNCH_S = 10.0
# Where the engine does not list processes, a payload that has not failed within this time counts as launched.
BLIND_S = 0.5
# Longest time between create and start of a concurrent start of the same name.
OTHER_START_S = 5.0
KILL_S = 15.0
POLL_S = 0.05
# Processes that the engine runs before the payload is executed. A process that just ended is listed by its name in brackets.
INITS = (
    "[",
    "runc init",
    "/sbin/docker-init",
    "docker-init",
    "/dev/init",
    "/run/podman-init",
    "catatonit",
    "timeout --foreground",
)
NOT_LAUNCHED = (1, 126, 127)
COMPLAINTS = ("[FATAL tini", "timeout:", "ERROR (catatonit")


class DockerContainers:
    """The container port over an engine."""

    def __init__(
        self,
        host: str,
        image: str | None = None,
        installation: str = "soulforge",
        timeout_s: float = TIMEOUT_S,
        root_jobs: str = UNPRIVILEGED,
    ) -> None:
        """`host` is the URL of the socket; `image` serves specifications that name none.

        `root_jobs` is the user, uid:gid, of jobs that a process of root starts.
        """
        self._engine = Engine(host, timeout_s)
        self._image = image
        self._installation = installation
        self._root_jobs = root_jobs

    async def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Create the container of a rune, which `revive` starts; an existing one is left as it is."""
        await self._create(spec)
        return describe(await self._found(spec.name))

    async def start(self, spec: ContainerSpec) -> ContainerInfo:
        made = await self._create(spec)
        found = await self._found(spec.name) if made else await self._started_elsewhere(spec)
        if not never_ran(found):
            return describe(found)
        try:
            return await self._start(spec.name)
        except ContainerError:
            if made:
                await self.kill(spec.name)
                await self.remove(spec.name)
            raise

    async def revive(self, name: str) -> ContainerInfo:
        found = await self._inspect(name)
        if found is None:
            raise ContainerError(f"container {name} is unknown: create it first (soulforge runes create)")
        return describe(found) if runs(found) else await self._start(name)

    async def stop(self, name: str, grace_s: float) -> None:
        if (found := await self._inspect(name)) and runs(found):
            await self._engine.signal(found["Id"], signal.SIGTERM)
            await self._over_within(name, grace_s)
        await self.kill(name)

    async def kill(self, name: str) -> None:
        found = await self._inspect(name)
        if found is None or not runs(found):
            return
        first = _first_process(found)
        await self._engine.signal(found["Id"], signal.SIGKILL)
        if not await self._over_within(name, KILL_S) or not await _gone(first):
            raise ContainerError(
                f"container {name} survives SIGKILL: see its process {found['State']['Pid']} in /proc/<pid>/stack"
            )

    async def inspect(self, name: str) -> ContainerInfo | None:
        found = await self._inspect(name)
        # A job whose start was interrupted never ran: for the caller it is still to be started.
        return None if found is None or (never_ran(found) and isolated(found)) else describe(found)

    async def list(self, labels: dict[str, str]) -> list[ContainerInfo]:
        infos = [describe(found) for found in await self._engine.all_of(self._installation)]
        chosen = [info for info in infos if labels.items() <= info.labels.items()]
        return sorted(chosen, key=lambda info: (info.started_at, info.name))

    async def logs(self, name: str, tail: int = 100) -> str:
        found = await self._inspect(name)
        return await self._engine.logs(found["Id"], tail) if found else ""

    async def memory_bytes(self, name: str) -> int:
        found = await self._inspect(name)
        return resident_bytes(await self._engine.stats(found["Id"])) if found and runs(found) else 0

    async def why_not_isolated(self) -> str | None:
        await self._engine.kind()  # an engine that answers isolates
        return None

    async def remove(self, name: str) -> None:
        found = await self._inspect(name)
        if found and runs(found):
            raise ContainerError(f"container {name} runs: stop it before it is removed")
        if found:
            await self._engine.remove(found["Id"])

    async def _create(self, spec: ContainerSpec) -> bool:
        """Create the container; False where the name is in use."""
        image = spec.image or self._image
        if image is None:
            raise ContainerError(f"container {spec.name} has no image: name one in soulforge.toml")
        if await self._inspect(spec.name):
            return False
        kind = await self._engine.kind()
        user = job_user(kind, self._root_jobs)
        if spec.isolated and user != engine_user(kind):
            await asyncio.to_thread(give_files, spec, *map(int, user.split(":")))
        body = create_body(spec, self._installation, image, kind, user)
        try:
            await self._engine.create(self._name(spec.name), body)
        except TakenError:
            return False
        return True

    async def _started_elsewhere(self, spec: ContainerSpec) -> Inspected:
        """The container that a concurrent start made, once it had time to start; created again if it is an earlier one."""
        deadline = time.monotonic() + OTHER_START_S
        while time.monotonic() < deadline:
            found = await self._inspect(spec.name)  # Its name is taken a moment before it is there.
            if found and not (never_ran(found) and isolated(found)):
                return found
            await asyncio.sleep(POLL_S)
        found = await self._found(spec.name)
        if never_ran(found) and not _matches(found, spec):
            await self._engine.remove(found["Id"])
            await self._create(spec)
        return await self._found(spec.name)

    async def _start(self, name: str) -> ContainerInfo:
        """Start it and wait for its payload: behind an init the engine itself does not notice a wrong command."""
        await self._engine.start(self._name(name))
        started = time.monotonic()
        while True:
            found = await self._found(name)
            if not runs(found):
                await self._refuse_unlaunched(found)
                return describe(found)
            commands = await self._engine.commands(found["Id"])
            waited_s = time.monotonic() - started
            if has_payload(commands) or waited_s > (BLIND_S if commands is None else LAUNCH_S):
                return describe(found)
            await asyncio.sleep(POLL_S)

    async def _refuse_unlaunched(self, found: Inspected) -> None:
        if found["State"]["ExitCode"] not in NOT_LAUNCHED:
            return
        complaint = (await self._engine.logs(found["Id"], tail=1)).strip()
        if complaint.startswith(COMPLAINTS):
            command = " ".join(found["Config"]["Entrypoint"])[:200]
            raise ContainerError(f"{command} cannot be run in {found['Config']['Image']}: {complaint}; correct it")

    async def _over_within(self, name: str, time_s: float) -> bool:
        deadline = time.monotonic() + time_s
        while (found := await self._inspect(name)) and runs(found):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _found(self, name: str) -> Inspected:
        found = await self._inspect(name)
        if found is None:
            raise ContainerError(f"container {name} was removed while it started: start it again")
        return found

    async def _inspect(self, name: str) -> Inspected | None:
        found = await self._engine.inspect(self._name(name))
        if found is None:
            return None
        labels = found["Config"]["Labels"] or {}
        if labels.get(INSTALLATION) != self._installation or labels.get(NAME) != name:
            raise ContainerError(f"container {self._name(name)} of the engine is not Soulforge's: rename or remove it")
        return found

    def _name(self, name: str) -> str:
        if not PORT_NAME.fullmatch(name):
            raise ContainerError(f"container name {name!r}: use letters, digits and _ . @ - only, at most 128")
        return engine_name(self._installation, name)


def has_payload(commands: list[str] | None) -> bool:
    """Whether these command lines of a container include more than what the engine runs first."""
    return any(not command.startswith(INITS) for command in commands or ())


def _matches(found: Inspected, spec: ContainerSpec) -> bool:
    labels = {PREFIX + key: value for key, value in spec.labels.items()}
    return bool(labels.items() <= found["Config"]["Labels"].items())


def _first_process(found: Inspected) -> ProcessIdentity | None:
    """Its init, where the engine runs on this machine: when it dies, the kernel ends everything in its PID namespace."""
    pid = int(found["State"]["Pid"])
    try:
        ours = found["Id"] in (PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    return identify(pid) if ours else None


async def _gone(first: ProcessIdentity | None) -> bool:
    return first is None or await asyncio.to_thread(wait_ended, first, KILL_S)
