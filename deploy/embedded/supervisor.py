"""Keeps the embedded stack running: starts parts in the order of their needs, restarts what exits, stops in reverse."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.embedded.keeper import Keeper, Say
from deploy.embedded.part import Part, PartError, PartStatus, in_order
from deploy.embedded.records import Records

Progress = Callable[[str, PartStatus], None]


class Supervisor:
    """Runs `parts` for one home, which the caller holds by `claim`.

    `say` gets an event line for every unwanted exit, `progress` each change of a part's state.
    """

    def __init__(self, home: Path, parts: Sequence[Part], say: Say, progress: Progress) -> None:
        self._records = Records(home)
        self._say = say
        self._progress = progress
        self._stop = asyncio.Event()
        self._parts = in_order(parts)
        self._keepers = {part.name: Keeper(part, self._records, say, self._changed) for part in self._parts}

    @property
    def status(self) -> dict[str, PartStatus]:
        return {name: keeper.status for name, keeper in self._keepers.items()}

    async def run(self) -> None:
        """Start everything, keep it running until SIGTERM or SIGINT, stop everything; a second signal kills.

        Raises PartError when a part is not ready in time; then all that had started is stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        stopping = asyncio.ensure_future(self._stop.wait())
        starting = asyncio.ensure_future(self.start())
        try:
            await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await stopping
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self.stop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def request_stop(self) -> None:
        """End `run`; asked a second time, end it without grace."""
        if self._stop.is_set():
            self._say("asked to stop again: killing what is left")
            for keeper in self._keepers.values():
                keeper.hurry()
        self._stop.set()

    async def start(self) -> None:
        """Start every part as soon as all that it needs is ready."""
        starting: dict[str, asyncio.Task[None]] = {}
        for part in self._parts:
            needed = [starting[need] for need in part.needs]
            starting[part.name] = asyncio.create_task(_after(needed, self._keepers[part.name]))
        try:
            await asyncio.gather(*starting.values())
        finally:
            for task in starting.values():
                task.cancel()

    async def stop(self) -> None:
        """Stop parts one after the other, the last started first. Raises PartError after all, if some survived."""
        survived = []
        for keeper in reversed(self._keepers.values()):
            try:
                await keeper.stop()
            except PartError as error:
                survived.append(str(error))
        if survived:
            raise PartError("; ".join(survived))

    def _changed(self, name: str, status: PartStatus) -> None:
        self._records.show(self.status)
        self._progress(name, status)


async def _after(needed: list[asyncio.Task[None]], keeper: Keeper) -> None:
    if needed:
        await asyncio.gather(*needed)
    await keeper.start()
