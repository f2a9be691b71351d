"""Start and stop the whole stack on one machine: `soulforge up` and `soulforge down`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from deploy.embedded import base, nats, postgres, preflight
from deploy.embedded.part import PartState, PartStatus
from deploy.embedded.parts import parts
from deploy.embedded.preflight import PreflightError
from deploy.embedded.state import lock, read_living
from deploy.embedded.supervisor import Supervisor, unfailing
from deploy.home import claim, is_claimed
from deploy.services import load_configuration, migrations
from services.registry.views import list_aliases
from shared.config.ports import container_name
from shared.config.settings import Settings
from shared.drivers.containers.open import open_containers
from shared.drivers.containers.port import ContainerState
from shared.drivers.inference.open import open_gate, open_rune
from shared.drivers.inference.port import AdmissionControl, Inference, InferenceError
from shared.processes.identity import send, wait_ended
from shared.ritual import lease
from shared.storage.base_model import Bases
from shared.storage.postgres import UNREACHABLE, MigrationError, check_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Announce = Callable[[str], None]

UP_WITHIN_S = 420.0
DOWN_WITHIN_S = 120.0
CONTAINER_GRACE_S = 20.0
POLL_S = 0.25


def run(settings: Settings, announce: Announce) -> int:
    """Start the stack and keep it running until SIGINT or SIGTERM, then stop everything in order. Returns the exit code."""
    announce = unfailing(announce)
    if line := claim(settings.home):
        announce(line)
    with lock(settings.home) as ended:
        for line in ended:
            announce(line)
        asyncio.run(_run(settings, announce))
    return 0


async def _run(settings: Settings, announce: Announce) -> None:
    for warning in await preflight.check(settings, await _running_ports(settings)):
        announce(warning.text)
    configuration = load_configuration(settings)
    base.prepare(settings, configuration, announce)
    for name in configuration.bases_in_use():
        await Bases(settings, configuration).get(
            name
        )  # the first time it is read whole, which no service has to wait for
    postgres.initialise(settings)
    nats.initialise(settings)

    def on_change(name: str, status: PartStatus) -> None:
        if status.state in (PartState.READY, PartState.STOPPED):
            announce(f"{name} {status.state}")

    supervisor = Supervisor(settings.home, parts(settings, os.environ), announce, on_change)  # noqa: TID251 - passed on whole
    up = asyncio.create_task(_announce_up(settings, supervisor, announce))
    known = asyncio.create_task(_refuse_another_version(settings, supervisor))
    try:
        await supervisor.run()
    finally:
        up.cancel()
        known.cancel()
        await end_containers(settings, announce)
        announce("everything is down")
    if known.done() and not known.cancelled():
        known.result()


async def _running_ports(settings: Settings) -> list[str]:
    """Runes whose containers outlived a supervisor: they may hold ports, and the services take them over."""
    configuration = load_configuration(settings)
    held = []
    for name, rune in configuration.runes.items():
        containers = open_containers(settings, rune.driver, configuration.docker)
        info = await containers.inspect(container_name(configuration.anvil_of(name), name))
        held += [name] if info and info.state is ContainerState.RUNNING else []
    return held


async def _refuse_another_version(settings: Settings, supervisor: Supervisor) -> None:
    """Stop everything and raise MigrationError where the home was made by another version."""
    while (part := supervisor.status.get("postgres")) and part.state is not PartState.READY:
        await asyncio.sleep(POLL_S)
    while True:
        try:
            await check_version(settings.database_url("bootstrap"), migrations())
            return
        except MigrationError:
            supervisor.request_stop()
            raise
        except UNREACHABLE:  # a server of the owner's may start later
            await asyncio.sleep(POLL_S)


async def _announce_up(settings: Settings, supervisor: Supervisor, announce: Announce) -> None:
    """Announce that everything is up: all parts are ready, and the rune serves or a ritual holds its anvil."""
    while any(part.state is not PartState.READY for part in supervisor.status.values()):
        await asyncio.sleep(POLL_S)
    configuration = load_configuration(settings)
    names = [name for names in configuration.serving_runes().values() for name in names]
    runes = [(open_rune(configuration, settings, name), open_gate(settings, name)) for name in names]
    while not (serving := await _serves(settings, runes)) and not (
        ritual := await _holder(settings, configuration.forge)
    ):
        await asyncio.sleep(POLL_S)
    if serving:
        announce(f"{', '.join(sorted(serving))} answer at {settings.gateway_url}/v1")
    else:
        announce(f"the rune waits: ritual {ritual} continues; watch it: soulforge watch {ritual}")
    announce(f"everything is up; traces at {settings.phoenix_url}")


async def _serves(settings: Settings, runes: Iterable[tuple[Inference, AdmissionControl]]) -> set[str]:
    """Bases, versions and personas that answer, once the runes serve every aliased version; nothing before."""
    served: set[str] = set()
    try:
        for rune, gate in runes:
            if (await gate.admission()).closed:
                return set()
            served |= await rune.models()
        conn = await asyncpg.connect(settings.database_url("owner"), timeout=5)
    except (InferenceError, *UNREACHABLE):
        return set()
    try:
        aliases = await list_aliases(conn)
    finally:
        await conn.close()
    return served | aliases.keys() if served.issuperset(aliases.values()) else set()


async def _holder(settings: Settings, anvil: str) -> UUID | None:
    """The ritual that holds the anvil; None where none does."""
    try:
        conn = await asyncpg.connect(settings.database_url("owner"), timeout=5)
    except UNREACHABLE:
        return None
    try:
        held = await lease.get_lease(conn, anvil)
        return held.ritual if held else None
    finally:
        await conn.close()


async def end_containers(settings: Settings, announce: Announce) -> None:
    """Stop the runes and every job, and remove the runes: what is stopped on purpose has not crashed."""
    configuration = load_configuration(settings)
    drivers = {"process", configuration.jobs.driver, *(rune.driver for rune in configuration.runes.values())}
    for driver in sorted(drivers):
        containers = open_containers(settings, driver, configuration.docker)
        for info in await containers.list({}):
            if info.state is ContainerState.RUNNING:
                await containers.stop(info.name, CONTAINER_GRACE_S)
                announce(f"{info.name} stopped")
            # A rune of the driver docker is created once, at deployment, and kept.
            if info.labels.get("role") == "rune" and driver == "process":
                await containers.remove(info.name)


def start_detached(settings: Settings, announce: Announce) -> None:
    """Start `soulforge up` in the background and return when everything answers. Raises PreflightError and HomeError."""
    if line := claim(settings.home):
        announce(line)
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    log = settings.logs_dir / "up.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", "up"],
            env={**os.environ, "SOULFORGE_HOME": str(settings.home)},  # noqa: TID251 - passed on whole
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    announced = 0
    deadline = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < deadline:
        lines = log.read_text(errors="replace").splitlines()
        ended = process.poll() is not None
        for line in lines[announced:]:
            announce(line)
        announced = len(lines)
        if ended:
            raise PreflightError("the stack did not come up")
        if any(line.startswith("everything is up") for line in lines):
            return
        time.sleep(POLL_S)
    raise PreflightError(
        f"the stack was not up within {UP_WITHIN_S:.0f} s: see {settings.logs_dir}; `soulforge down` ends what runs"
    )


def stop(settings: Settings, announce: Announce) -> None:
    """Stop the stack of this home, including processes that a killed supervisor left running."""
    if not is_claimed(settings.home):
        announce(f"nothing to stop: {settings.home} is no home of Soulforge")
        return
    announce = unfailing(announce)
    if state := read_living(settings.home):
        send(state.supervisor, signal.SIGTERM)
        if not wait_ended(state.supervisor, DOWN_WITHIN_S):
            raise PreflightError(
                f"the supervisor (pid {state.supervisor.pid}) did not end within {DOWN_WITHIN_S:.0f} s: "
                f"see {settings.logs_dir}"
            )
    with lock(settings.home) as ended:
        for line in ended:
            announce(line)
        asyncio.run(end_containers(settings, announce))
    announce("everything is down")


def status(settings: Settings) -> dict[str, PartStatus]:
    """The parts as the running supervisor sees them; empty when none runs."""
    state = read_living(settings.home)
    return state.parts if state else {}
