"""Supervise one part: start it, wait until it is ready, restart it when it exits; until it is stopped."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict, Unpack
from uuid import uuid4

from deploy.embedded.part import Part, PartError, PartState, PartStatus, Ready, delay_s, exit_line, failures_in_a_row
from shared.processes.files import read_tail, rotate
from shared.processes.identity import identify, send
from shared.processes.tree import ProcessTree, kill, start_process

POLL_S = 0.05
LOG_LINES = 20
CANNOT_START = 127
Announce = Callable[[str], None]


class PartSupervisor:
    """Keeps one part running. `changed` gets its name and status whenever that changes."""

    def __init__(self, part: Part, logs: Path, announce: Announce, changed: Callable[[str, PartStatus], None]) -> None:
        self.status = PartStatus(since=time.time(), stop_signal=part.stop_signal, grace_s=part.grace_s)
        self._part = part
        # The same of every run: a restart that could not be recorded is found by an earlier record.
        self._tree = ProcessTree(token=uuid4().hex)
        self._log = logs / f"{part.name}.log"
        self._announce = announce
        self._changed = changed
        self._ready = asyncio.Event()
        self._ready_at: float | None = None  # of this run, by the monotonic clock
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the part and return when it is ready. Raises PartError when it cannot start or is not ready in time."""
        self._life = asyncio.create_task(self._live())
        await either(self._life, self._ready, self._part.ready_s)
        if self._life.done():
            self._life.result()
        if not self._ready.is_set():
            end = f"the end of {self._log}:\n{read_tail(self._log, LOG_LINES)}"
            raise PartError(f"{self._part.name} was not ready within {self._part.ready_s:g} s; {end}")

    async def stop(self) -> None:
        """Stop the part and return when nothing of it is left. Raises PartError when something survives SIGKILL."""
        if self._life is None:
            return
        self._stopping.set()
        await asyncio.wait({self._life})
        await self._kill_rest()
        self._change(state=PartState.STOPPED)

    def hurry(self) -> None:
        """End the grace of a stop that runs or is still to come."""
        self._hurry.set()

    async def _live(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._ready_at = None
            code = await self._run(first=failures == 0)
            if self._stopping.is_set():
                self._change(tree=None, last_exit=code)
                return
            ready_for_s = time.monotonic() - self._ready_at if self._ready_at else 0.0
            failures = failures_in_a_row(failures, ready_for_s)
            self._announce(exit_line(self._part.name, code, failures))
            restarts = self.status.restarts + 1
            self._change(state=PartState.RESTARTING, tree=None, last_exit=code, restarts=restarts)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s(failures))

    async def _run(self, first: bool) -> int:
        """Run the process once, until nothing of its tree is left; returns its exit code."""
        part, tree = self._part, self._tree
        # Recorded before the start: a supervisor that is killed in between leaves no process that cannot be found.
        self._change(tree=tree)
        try:
            process = await start_process(
                part.command, part.cwd, {**part.env, **tree.environment}, self._writable_log()
            )
        except OSError as error:
            message = f"{part.name} cannot be started: {error}"
            if first:
                raise PartError(message) from error
            self._announce(message)
            return CANNOT_START
        leader = identify(process.pid)
        self._change(state=PartState.STARTING, tree=tree.model_copy(update={"leader": leader}))
        exited, hung = asyncio.create_task(process.wait()), asyncio.create_task(self._watch())
        await either(asyncio.create_task(asyncio.wait({exited, hung}, return_when=FIRST_COMPLETED)), self._stopping)
        hung.cancel()  # changes nothing where it is done
        if hung.done() and not exited.done():
            self._announce(f"{part.name} {hung.result()}, it is killed")
        elif not exited.done():
            self._change(state=PartState.STOPPING)
            if leader:
                send(leader, part.stop_signal)
            await either(exited, self._hurry, part.grace_s)
        await self._kill_rest()
        return await exited

    async def _watch(self) -> str:
        """Wait until the part is ready, and from then on until it hangs. Returns how it hangs."""
        part = self._part
        # The first time it is `start` that waits no longer than that.
        within_s = part.ready_s if self._ready.is_set() else None
        while not await self._is_ready_within(within_s):
            # One that lives, such as a database that recovers, has as long as it needs.
            if part.live is None or not await _answers(part.live, part.probe_every_s):
                return f"was not ready within {part.ready_s:g} s"
        self._ready.set()
        self._ready_at = time.monotonic()
        self._change(state=PartState.READY)
        failed = 0
        # Probes count and not the time: after a pause of this process or of the whole machine a part has its chances again.
        while failed < part.probes:
            answer, _ = await asyncio.gather(
                _answers(part.live or part.ready, part.probe_every_s), asyncio.sleep(part.probe_every_s)
            )
            failed = 0 if answer else failed + 1
            self._rotate()
        return f"runs but does not answer: {part.probes} probes in a row failed"

    async def _is_ready_within(self, within_s: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                # A server does not report that it is ready: it is polled.
                while not await _answers(self._part.ready):
                    self._rotate()
                    await asyncio.sleep(POLL_S)
                return True
        return False

    async def _kill_rest(self) -> None:
        tree = self.status.tree
        if tree and not await asyncio.to_thread(kill, tree.processes):
            raise PartError(f"{self._part.name}: something survives SIGKILL; find {tree.token} in /proc/*/environ")

    def _writable_log(self) -> Path:
        """The path of the log. Where it cannot be written: none."""
        try:
            self._log.open("ab").close()
        except OSError as error:
            self._announce(
                f"{self._log} cannot be written ({error}): {self._part.name} runs without a log until it is restarted"
            )
            return Path(os.devnull)
        return self._log

    def _rotate(self) -> None:
        # Where it fails, as on a full disk, it is tried again at the next look.
        with suppress(OSError):
            rotate(self._log)

    def _change(self, **change: Unpack[Change]) -> None:
        since = time.time() if change.get("state", self.status.state) != self.status.state else self.status.since
        self.status = self.status.model_copy(update={**change, "since": since})
        self._changed(self._part.name, self.status)


class Change(TypedDict, total=False):
    state: PartState
    tree: ProcessTree | None
    restarts: int
    last_exit: int


async def either(task: asyncio.Task[Any], event: asyncio.Event, timeout_s: float | None = None) -> None:
    """Wait until `task` is done or `event` is set, no longer than `timeout_s`."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, timeout=timeout_s, return_when=FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _answers(probe: Ready | None, within_s: float | None = None) -> bool:
    if probe is None:
        return True
    try:
        async with asyncio.timeout(within_s):
            return await probe()
    except Exception:
        # Whatever a probe raises, there was no answer, and supervision goes on.
        return False
