"""The decision about a waiting ritual and its reason, with the days and times that reasons speak of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from shared.contracts.frozen import Frozen

# Bounds that keep every sum of a moment and a duration inside what a datetime holds.
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Moment = Annotated[AwareDatetime, Field(ge=FIRST, le=LAST)]
# An absurd moment in an intent must not stop the scheduler: beyond the bounds it is taken as the bound.
ClampedMoment = Annotated[AwareDatetime, AfterValidator(lambda moment: min(max(moment, FIRST), LAST))]
Seconds = Annotated[float, Field(ge=0, le=10 * 366 * 86400.0)]
HOURS_FROM_S = 7200.0

Measures = Mapping[str, str | int | float | None]


class Verdict(StrEnum):
    NOW = "now"
    WAIT = "wait"
    REFUSED = "refused"


class Cause(StrEnum):
    """The rule that decided. Stays the same while only the figures in the reason change."""

    IMMEDIATE = "immediate"  #: now: the policy
    URGENT = "urgent"  #: now: its priority
    IDLE = "idle"  #: now: few or no requests
    AGED = "aged"  #: now: it waited so long that any load is accepted
    WINDOW = "window"  #: now: inside, or wait: outside a window
    TOO_LONG = "too_long"  #: now or wait: no window is as long as the work, which starts where one opens
    DEADLINE = "deadline"  #: now: later would miss it; refused: missed
    BUSY = "busy"  #: wait: the runes get requests
    UNKNOWN = "unknown"  #: wait: the load could not be measured, or not for long enough
    BUDGET = "budget"  #: wait: too little is left today; refused: it takes more than a whole day's
    BEHIND = "behind"  #: wait: another ritual goes first
    CONTAINED = "contained"  #: wait: the anvil failed to serve too often
    PAUSED = "paused"  #: wait: the ritual is paused
    RECLAIMED = "reclaimed"  #: wait: the anvil is reclaimed for some time
    ABSENT = "absent"  #: wait: a service that it needs on the anvil does not run
    JOBS = "jobs"  #: wait: a service that it needs on the anvil starts no job, as it could not isolate it
    DISK = "disk"  #: wait: too little disk space is free
    TIMED_OUT = "timed_out"  #: refused: it waited for longer than `refuse_after_s`


class Decision(Frozen):
    """`reason` is a sentence for people; `measures` are the values it was made from, for the record.

    A wait ends at `until`, or where that is None, when the load allows it. `until` is in the future, and None for other
    verdicts.
    """

    verdict: Verdict
    cause: Cause
    reason: str
    until: datetime | None = None
    measures: Measures = Field(default_factory=dict)


def start(cause: Cause, reason: str) -> Decision:
    return Decision(verdict=Verdict.NOW, cause=cause, reason=f"now: {reason}")


def refuse(cause: Cause, reason: str) -> Decision:
    return Decision(verdict=Verdict.REFUSED, cause=cause, reason=f"refused: {reason}")


def wait(cause: Cause, reason: str, until: datetime | None = None) -> Decision:
    return Decision(verdict=Verdict.WAIT, cause=cause, reason=f"waits: {reason}", until=until)


def at_local_time(day: date, wall: time, zone: tzinfo) -> datetime:
    """The moment of a local time, read as RFC 5545 (3.3.5) does.

    A time that clocks skip is as much later; of one that they repeat it is the first.
    """
    return datetime.combine(day, wall, zone).astimezone(UTC)


def day_bounds(now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """When the day of `now` began and when the next one begins; 23 to 25 hours apart where clocks change."""
    today = now.astimezone(zone).date()
    tomorrow = today + timedelta(days=1)
    ends = at_local_time(tomorrow, time(), zone)
    # Clocks that were put back over midnight (St John's, until 2011) have passed it once already.
    return at_local_time(today, time(), zone), ends if ends > now else at_local_time(tomorrow, time(fold=1), zone)


def clock_text(moment: datetime, now: datetime, zone: tzinfo) -> str:
    """The local time, with the date where it is not today's."""
    local, today = moment.astimezone(zone), now.astimezone(zone).date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def duration_text(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < HOURS_FROM_S else f"{seconds / 3600:.1f} h"
