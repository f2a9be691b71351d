"""What the tipping point says about a ritual, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from shared.contracts.frozen import Frozen

CALM_LOOK_S = 10.0  # within which a wait that ends with a change of load is looked at again
LOOK_S = 60.0  # and any other: estimates, limits and the configuration change too

Measures = Mapping[str, str | int | float | None]


class Verdict(StrEnum):
    NOW = "now"
    WAIT = "wait"
    REFUSED = "refused"


class Cause(StrEnum):
    """What decided it. Stays the same while only the numbers of the reason change."""

    IMMEDIATE = "immediate"  #: now: the policy
    URGENT = "urgent"  #: now: its priority
    IDLE = "idle"  #: now: nobody asks
    RIPE = "ripe"  #: now: waited so long that any load will do
    WINDOW = "window"  #: now: inside, or wait: outside a window
    TOO_LONG = "too_long"  #: now or wait: no window is as long as the work, it starts where one opens
    DEADLINE = "deadline"  #: now: later would miss it; refused: missed
    BUSY = "busy"  #: wait: the runes are asked
    UNKNOWN = "unknown"  #: wait: the load could not be measured, or was not for long enough
    BUDGET = "budget"  #: wait: too little is left today; refused: it takes more than a whole day's
    BEHIND = "behind"  #: wait: another ritual goes first
    TIRED = "tired"  #: refused: waited for longer than `refuse_after_s`


class Decision(Frozen):
    """`reason` is a sentence for people; `measures` is what it was made from, for the ledger.

    A wait ends at `until`, or where that is None, when the load allows it; it is looked at again at `look_again_at` at
    the latest. Both lie in the future, and are None for other verdicts.
    """

    verdict: Verdict
    cause: Cause
    reason: str
    until: datetime | None = None
    look_again_at: datetime | None = None
    measures: Measures = Field(default_factory=dict)


def go(cause: Cause, reason: str) -> Decision:
    return Decision(verdict=Verdict.NOW, cause=cause, reason=f"now: {reason}")


def refuse(cause: Cause, reason: str) -> Decision:
    return Decision(verdict=Verdict.REFUSED, cause=cause, reason=f"refused: {reason}")


def wait_until(cause: Cause, now: datetime, until: datetime, reason: str) -> Decision:
    again = min(until, now + timedelta(seconds=LOOK_S))
    return Decision(verdict=Verdict.WAIT, cause=cause, reason=f"waits: {reason}", until=until, look_again_at=again)


def wait_for_calm(cause: Cause, now: datetime, in_s: float, reason: str) -> Decision:
    """A wait without a known end; `in_s` is the earliest at which it could end if nothing more comes."""
    again = now + timedelta(seconds=min(max(in_s, 1.0), CALM_LOOK_S))
    return Decision(verdict=Verdict.WAIT, cause=cause, reason=f"waits: {reason}", look_again_at=again)
