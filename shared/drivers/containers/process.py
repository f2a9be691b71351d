"""Containers as supervised process trees: for a machine without a container engine.

Each has a shim of its own, which outlives this process; all state is in `directory`/<name>/, so that a new instance
takes over every container of an earlier one. Linux 5.12 or newer.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from shared.drivers.containers.port import ContainerError, ContainerInfo, ContainerSpec, ContainerState
from shared.drivers.containers.sandbox import SandboxError, find_program, why_not
from shared.drivers.containers.state import ContainerRecord, State
from shared.processes.files import read_tail
from shared.processes.identity import send
from shared.processes.tree import send_all, start_process

IMPORT_ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
LAUNCH_S = 30.0
KILL_S = 10.0
# A shim that is itself suspended cannot finish: after this time it is killed as well.
SHIM_GRACE_S = 3.0
POLL_S = 0.02


class ProcessContainers:
    """The container port over processes of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def start(self, spec: ContainerSpec) -> ContainerInfo:
        state = self._state(spec.name)
        if not state.run() and not state.exit():
            sandbox = await _sandbox(spec, self._directory)
            with _recording(spec.name):
                state.write_record(_record(state.record(), spec, sandbox))
                await _run_shim(state)
        await _launched(state)
        if (end := state.exit()) and end.error:
            await self.remove(spec.name)
            raise ContainerError(f"{end.error}; correct its specification and start it again")
        info = await self.inspect(spec.name)
        if info is None:
            raise ContainerError(f"container {spec.name} was removed while it started: start it again")
        return info

    async def revive(self, name: str) -> ContainerInfo:
        state = self._state(name)
        info, record = await self.inspect(name), state.record()
        if info is None or record is None:
            raise ContainerError(f"container {name} is unknown: start it from its specification")
        if info.state is ContainerState.EXITED:
            sandbox = await _sandbox(record.spec, self._directory)
            with _recording(name):
                await asyncio.to_thread(state.renew, _record(None, record.spec, sandbox))
        return await self.start(record.spec)

    async def stop(self, name: str, grace_s: float) -> None:
        if await asyncio.to_thread(_terminate, self._state(name)):
            await self._exits_within(name, grace_s)
        await self.kill(name)

    async def kill(self, name: str) -> None:
        await asyncio.to_thread(_kill, self._state(name))

    async def inspect(self, name: str) -> ContainerInfo | None:
        return await asyncio.to_thread(self._state(name).inspect)

    async def list(self, labels: dict[str, str]) -> list[ContainerInfo]:
        found = await asyncio.to_thread(_all, self._directory)
        chosen = [info for info in found if labels.items() <= info.labels.items()]
        return sorted(chosen, key=lambda info: (info.started_at, info.name))

    async def logs(self, name: str, tail: int = 100) -> str:
        return await asyncio.to_thread(read_tail, self._state(name).log, tail)

    async def memory_bytes(self, name: str) -> int:
        return await asyncio.to_thread(self._state(name).memory_bytes)

    async def why_not_isolated(self) -> str | None:
        return await asyncio.to_thread(why_not, self._directory)

    async def remove(self, name: str) -> None:
        info = await self.inspect(name)
        if info and info.state is ContainerState.RUNNING:
            raise ContainerError(f"container {name} runs: stop it before it is removed")
        await asyncio.to_thread(shutil.rmtree, self._state(name).directory, ignore_errors=True)

    async def _exits_within(self, name: str, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            info = await self.inspect(name)
            if info is None or info.state is ContainerState.EXITED:
                return
            await asyncio.sleep(POLL_S)

    def _state(self, name: str) -> State:
        if not NAME.fullmatch(name):
            raise ContainerError(f"container name {name!r}: use letters, digits and _ . @ - only, at most 128")
        return State(self._directory / name)


@contextmanager
def _recording(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ContainerError(
            f"container {name} cannot be recorded ({error}): make room on the disk of the home"
        ) from error


async def _sandbox(spec: ContainerSpec, directory: Path) -> str | None:
    """The program of an isolated container's sandbox. Raises ContainerError where there is none: never less isolation."""
    if not spec.isolated:
        return None
    try:
        return await asyncio.to_thread(find_program, directory)
    except SandboxError as error:
        raise ContainerError(f"container {spec.name} is not started: {error}") from error


def _record(before: ContainerRecord | None, spec: ContainerSpec, sandbox: str | None) -> ContainerRecord:
    # After an interrupted start its shim may be about to run: it must find the token that identifies it.
    token = before.token if before and before.spec == spec else uuid4().hex
    return ContainerRecord(token=token, requested_at=time.time(), spec=spec, sandbox=sandbox)


async def _run_shim(state: State) -> None:
    command = (sys.executable, "-m", "shared.drivers.containers.shim", str(state.directory))
    # The environment of the service holds credentials.
    shim = await start_process(command, IMPORT_ROOT, {}, state.shim_log)
    if await shim.wait():
        raise ContainerError(f"the shim of {state.directory.name} did not start: {read_tail(state.shim_log, 20)}")


async def _launched(state: State) -> None:
    deadline = time.monotonic() + LAUNCH_S
    # A shim that was killed before it launched anything will record neither.
    while not await asyncio.to_thread(state.settled) and not ((run := state.run()) and run.started_at):
        if time.monotonic() > deadline:
            raise ContainerError(f"container {state.directory.name} did not start in {LAUNCH_S:.0f} s: kill it")
        await asyncio.sleep(POLL_S)


def _all(directory: Path) -> list[ContainerInfo]:
    if not directory.is_dir():
        return []
    entries = [entry for entry in directory.iterdir() if NAME.fullmatch(entry.name)]
    return [info for entry in entries if (info := State(entry).inspect())]


def _terminate(state: State) -> bool:
    """Send SIGTERM to the container; False when nothing of it runs."""
    if state.settled():
        return False
    run = state.run()
    return bool(run and send(run.shim, signal.SIGTERM)) or send_all(state.processes(), signal.SIGTERM)


def _kill(state: State) -> None:
    """SIGKILL everything until nothing is left and the end is recorded. Raises ContainerError. Blocks."""
    started = time.monotonic()
    while state.record() and not state.settled():
        waited_s, run = time.monotonic() - started, state.run()
        if waited_s > KILL_S:
            pids = sorted(process.pid for process in state.payload())
            raise ContainerError(
                f"container {state.directory.name}: processes {pids} survive SIGKILL; see their state in /proc/<pid>/stack"
            )
        if run is None and state.settle():
            return
        send_all(state.processes(), signal.SIGKILL)
        if run and waited_s > SHIM_GRACE_S:
            send(run.shim, signal.SIGKILL)
        time.sleep(POLL_S)
