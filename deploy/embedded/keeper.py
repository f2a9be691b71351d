"""The life of one part under supervision: start, become ready, exit, wait, start again; until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from typing import TypedDict, Unpack
from uuid import uuid4

from deploy.embedded.claim import KILL_S
from deploy.embedded.part import Part, PartError, PartState, PartStatus, delay_s, exit_line, failures_in_a_row
from deploy.embedded.records import Records, Started
from shared.processes.files import read_tail
from shared.processes.identity import identify, send
from shared.processes.tree import ProcessTree, kill, start_process

POLL_S = 0.05
LOG_LINES = 20
CANNOT_START = 127
Say = Callable[[str], None]


class Keeper:
    """Keeps one part running. `changed` gets its status whenever that changes."""

    def __init__(self, part: Part, records: Records, say: Say, changed: Callable[[str, PartStatus], None]) -> None:
        self.status = PartStatus(since=time.time())
        self._part = part
        self._records = records
        self._say = say
        self._changed = changed
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._started: Started | None = None
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the part is ready. Raises PartError when it cannot be started or is not ready in time."""
        self._life = asyncio.create_task(self._live())
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._life}, timeout=self._part.ready_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._life.done():
            self._life.result()
        if not self._ready.is_set():
            raise PartError(f"{self._part.name} was not ready within {self._part.ready_s:g} s; {self._log_end()}")

    async def stop(self) -> None:
        """Returns when nothing of the part is left. Raises PartError when something survives SIGKILL."""
        if self._life is None:
            return
        self._stopping.set()
        self._ask()
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({self._life, hurry}, timeout=self._part.grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        await self._end_rest()
        await asyncio.wait({self._life})
        self._change(state=PartState.STOPPED, pid=None)

    def hurry(self) -> None:
        """Let a stop, running or to come, wait no longer."""
        self._hurry.set()

    async def _live(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            born = time.monotonic()
            code = await self._run(first=failures == 0)
            self._change(pid=None, last_exit=code)
            if self._stopping.is_set():
                return
            failures = failures_in_a_row(failures, time.monotonic() - born)
            self._say(exit_line(self._part.name, code, failures))
            self._change(state=PartState.RESTARTING, restarts=self.status.restarts + 1)
            await self._pause(delay_s(failures))

    async def _run(self, first: bool) -> int:
        """One life of the process, from its start until nothing of it is left; its exit code."""
        try:
            process = await self._spawn()
        except PartError as error:
            if first:
                raise
            self._say(str(error))
            return CANNOT_START
        self._change(state=PartState.STARTING, pid=process.pid)
        if self._stopping.is_set():
            self._ask()
        probe = asyncio.create_task(self._become_ready())
        code = await process.wait()
        probe.cancel()
        await self._end_rest()
        self._records.end(self._part.name)
        return code

    async def _spawn(self) -> Process:
        part, tree = self._part, ProcessTree(token=uuid4().hex)
        env = {**part.env, **tree.environment}
        try:
            process = await start_process(part.command, part.cwd, env, self._records.log(part.name))
        except OSError as error:
            raise PartError(f"{part.name} cannot be started: {error}") from error
        self._record(tree.model_copy(update={"leader": identify(process.pid)}))
        return process

    def _record(self, tree: ProcessTree) -> None:
        self._started = Started(
            name=self._part.name,
            tree=tree,
            started_at=time.time(),
            stop_signal=self._part.stop_signal,
            grace_s=self._part.grace_s,
        )
        self._records.start(self._started)

    async def _become_ready(self) -> None:
        # Nobody can wake us: whether a server answers is only known by asking it.
        while not await _answers(self._part):
            await asyncio.sleep(POLL_S)
        self._ready.set()
        if self.status.state is PartState.STARTING:
            self._change(state=PartState.READY)

    def _ask(self) -> None:
        self._change(state=PartState.STOPPING)
        if self._started and self._started.tree.leader:
            send(self._started.tree.leader, self._part.stop_signal)

    async def _end_rest(self) -> None:
        started = self._started
        if started and not await asyncio.to_thread(kill, started.tree.processes, KILL_S):
            raise PartError(
                f"{started.name}: something survives SIGKILL; look for {started.tree.token} in /proc/*/environ"
            )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _change(self, **change: Unpack[Change]) -> None:
        since = time.time() if change.get("state", self.status.state) != self.status.state else self.status.since
        self.status = self.status.model_copy(update={**change, "since": since})
        self._changed(self._part.name, self.status)

    def _log_end(self) -> str:
        log = self._records.log(self._part.name)
        return f"the end of {log}:\n{read_tail(log, LOG_LINES)}"


class Change(TypedDict, total=False):
    state: PartState
    pid: int | None
    restarts: int
    last_exit: int


async def _answers(part: Part) -> bool:
    if part.ready is None:
        return True
    try:
        return await part.ready()
    except OSError:
        return False
