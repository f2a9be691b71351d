"""The supervisor of the embedded stack: starts parts in the order of their needs, restarts what exits, stops in reverse."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec

from deploy.embedded.part import Part, PartError, PartStatus, in_order
from deploy.embedded.part_supervisor import Announce, PartSupervisor, either
from deploy.embedded.state import write_state

P = ParamSpec("P")
OnChange = Callable[[str, PartStatus], None]
RECORD_AGAIN_S = 10.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Runs `parts` for one home, of which the caller holds the lock.

    `announce` gets a line for every unwanted exit, `on_change` each change of a part's status. What cannot be announced or
    recorded, as on a full disk, is supervised all the same.
    """

    def __init__(self, home: Path, parts: Sequence[Part], announce: Announce, on_change: OnChange) -> None:
        self._home = home
        self._announce = unfailing(announce)
        self._on_change = unfailing(on_change)
        self._retry: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._parts = in_order(parts)
        logs = home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._supervisors = {
            part.name: PartSupervisor(part, logs, self._announce, self._changed) for part in self._parts
        }

    @property
    def status(self) -> dict[str, PartStatus]:
        return {name: supervisor.status for name, supervisor in self._supervisors.items()}

    async def run(self) -> None:
        """Start everything, keep it running until SIGTERM or SIGINT, stop everything; a second signal kills.

        Raises PartError when a part is not ready in time; then all that had started is stopped.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.request_stop)
        starting = asyncio.create_task(self.start())
        try:
            await either(starting, self._stop)
            if starting.done():
                starting.result()
            await self._stop.wait()
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self.stop()
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def request_stop(self) -> None:
        """End `run`; a second request ends it without grace."""
        if self._stop.is_set():
            self._announce("second stop request: killing the remaining processes")
            for supervisor in self._supervisors.values():
                supervisor.hurry()
        self._stop.set()

    async def start(self) -> None:
        """Start every part as soon as its needs are ready."""
        starting: dict[str, asyncio.Task[None]] = {}

        async def start_after_needs(part: Part) -> None:
            await asyncio.gather(*(starting[need] for need in part.needs))
            await self._supervisors[part.name].start()

        for part in self._parts:
            starting[part.name] = asyncio.create_task(start_after_needs(part))
        try:
            await asyncio.gather(*starting.values())
        finally:
            for task in starting.values():
                task.cancel()

    async def stop(self) -> None:
        """Stop parts one after the other, the last started first. Raises PartError after all, if some survived."""
        survived = []
        for supervisor in reversed(self._supervisors.values()):
            try:
                await supervisor.stop()
            except PartError as error:
                survived.append(str(error))
        if survived:
            raise PartError("; ".join(survived))

    def _changed(self, name: str, status: PartStatus) -> None:
        self._record()
        self._on_change(name, status)

    def _record(self) -> None:
        """Record the status of all parts; where that fails, try again later."""
        failed_before = self._retry is not None
        if self._retry:
            self._retry.cancel()
            self._retry = None
        try:
            write_state(self._home, self.status)
        except OSError as error:
            if not failed_before:
                self._announce(f"the state of the parts cannot be recorded ({error}): supervision goes on")
            self._retry = asyncio.get_running_loop().call_later(RECORD_AGAIN_S, self._record)
        else:
            if failed_before:
                self._announce("the state of the parts is recorded again")


def unfailing(call: Callable[P, None]) -> Callable[P, None]:
    """Make `call`, which writes to a terminal or a log, do nothing where that is full or closed."""

    def quietly(*values: P.args, **named: P.kwargs) -> None:
        # A ValueError: the stream is closed.
        with suppress(OSError, ValueError):
            call(*values, **named)

    return quietly
