"""The worker-queue port: hold the queues whose workers use an anvil, prove them idle, let them go on."""

from __future__ import annotations

import re
from typing import Protocol

HOLDER = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


class QueueError(Exception):
    """A queue could not be held, read or released; the message says what to do."""


class WorkerQueue(Protocol):
    """Workers that have to stand still while the anvil is away.

    Every call may be repeated, and is safe after a crash at any point before: call it again. A hold is durable and
    outlives who made it; several holders may hold at once, and work goes on when the last has let go. A holder is
    named `anvil/fence`, e.g. `anvil0/17`. Every call has a deadline and raises QueueError when it passes.
    """

    async def hold(self, holder: str, reason: str = "") -> None:
        """No waiting job starts from when this returns; jobs that were taken before run on.

        Workers that pause by themselves have been told when this returns; that they heard it, `drained` proves.
        After a QueueError the hold may stand or not: repeat, or release.
        """
        ...

    async def active(self) -> int:
        """How many jobs run now; a job that was taken and has not begun yet counts."""
        ...

    async def waiting(self) -> int:
        """How many jobs could start now if workers were free; 0 where the workers do not say."""
        ...

    async def running(self) -> tuple[str, ...]:
        """What keeps the queue from being idle, in words for the owner; empty when it is idle."""
        ...

    async def drained(self, grace_s: float | None = None) -> tuple[str, ...]:
        """Wait until nothing runs, at most `grace_s` (default: as configured); returns what runs still, as `running`.

        Empty is the proof. Nothing is aborted: what to do with the rest is the caller's. Raises QueueError where no
        hold stands, since idle workers without one prove nothing.
        """
        ...

    async def release(self, holder: str) -> None:
        """Let go of all that `holder` holds here; fine when that is nothing. Waiting jobs start when no hold is left."""
        ...

    async def held(self) -> tuple[str, ...]:
        """The holders found, sorted; those of other anvils, too, where they share the queue's database or bus."""
        ...


def anvil_of(holder: str) -> str:
    """The anvil in a holder's name. Raises QueueError for a name that is none."""
    if not HOLDER.fullmatch(holder):
        raise QueueError(f"{holder!r} is no holder: name it anvil/fence, e.g. anvil0/17")
    return holder.split("/")[0]
