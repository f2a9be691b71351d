"""The worker-queue port: hold the queues whose workers use an anvil, prove them idle, release them."""

from __future__ import annotations

import re
from typing import Protocol

HOLDER = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


class QueueError(Exception):
    """A queue could not be held, read or released; the message includes what to do."""


class WorkerQueue(Protocol):
    """Workers that must be idle while the anvil is leased to a ritual.

    Every call may be repeated, and is safe after a crash at any point before: call it again. A hold is durable and
    outlives the process that made it; several holders may hold at once, and work resumes when the last has released. A
    holder is named `anvil/fence`, e.g. `anvil0/17`. Every call has a deadline and raises QueueError when it passes.
    """

    async def hold(self, holder: str, reason: str = "") -> None:
        """Hold the queue: no waiting job starts once this returns; jobs that were taken before continue.

        Workers that pause by themselves have been notified when this returns; that they know, `drained` proves.
        After a QueueError the hold may or may not exist: repeat, or release.
        """
        ...

    async def active(self) -> int:
        """Count the jobs that run now, with those that were taken and have not begun yet."""
        ...

    async def waiting(self) -> int:
        """Count the jobs that could start now if workers were free; 0 where that cannot be known."""
        ...

    async def running(self) -> tuple[str, ...]:
        """Describe what keeps the queue from being idle, for the owner; empty when it is idle."""
        ...

    async def drained(self, grace_s: float | None = None) -> tuple[str, ...]:
        """Wait until nothing runs, at most `grace_s` (default: as configured); returns what still runs, as `running`.

        Empty is the proof. Nothing is aborted: the caller decides about the rest. Raises QueueError where there is no
        hold, since idle workers without one prove nothing.
        """
        ...

    async def release(self, holder: str) -> None:
        """Release every hold of `holder`; fine when there is none. Waiting jobs start when no hold is left."""
        ...

    async def held(self) -> tuple[str, ...]:
        """List the holders, sorted; including those of other anvils that share the queue's database or bus."""
        ...


def anvil_of(holder: str) -> str:
    """The anvil in a holder's name. Raises QueueError for a name of another form."""
    if not HOLDER.fullmatch(holder):
        raise QueueError(f"{holder!r} is not a holder: name it anvil/fence, e.g. anvil0/17")
    return holder.split("/")[0]
