"""What the tipping point says about a ritual, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from shared.contracts.frozen import Frozen

CALM_LOOK_S = 10.0  # within which a wait that ends with a change of load is looked at again
LOOK_S = 60.0  # and any other: estimates, limits and the configuration change too

# Bounds that keep every sum of a moment and a span inside what a datetime holds.
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Moment = Annotated[AwareDatetime, Field(ge=FIRST, le=LAST)]
# What somebody else wrote must not stop the one who reads it: beyond the bounds it is at them.
Foreign = Annotated[AwareDatetime, AfterValidator(lambda moment: min(max(moment, FIRST), LAST))]
Seconds = Annotated[float, Field(ge=0, le=10 * 366 * 86400.0)]
HOURS_FROM_S = 7200.0

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


def at(day: date, wall: time, zone: tzinfo) -> datetime:
    """The moment of a time of the day: one that clocks skip is as much later, of one that they repeat it is the first.

    That is how RFC 5545 (3.3.5) reads local times, and so do calendars.
    """
    return datetime.combine(day, wall, zone).astimezone(UTC)


def day(now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """When the day of `now` began and when the next one begins; 23 to 25 hours apart where clocks change."""
    today = now.astimezone(zone).date()
    tomorrow = today + timedelta(days=1)
    ends = at(tomorrow, time(), zone)
    # Clocks that were put back over midnight (St John's, until 2011) have passed it once already.
    return at(today, time(), zone), ends if ends > now else at(tomorrow, time(fold=1), zone)


def say(moment: datetime, now: datetime, zone: tzinfo) -> str:
    """The time of the day, with the date where it is not today's."""
    local, today = moment.astimezone(zone), now.astimezone(zone).date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < HOURS_FROM_S else f"{seconds / 3600:.1f} h"
