"""Days and times of the day in a zone, and how moments and spans are written in sentences."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

# Bounds that keep every sum of a moment and a span inside what a datetime holds.
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Moment = Annotated[AwareDatetime, Field(ge=FIRST, le=LAST)]
# What somebody else wrote must not stop the one who reads it: beyond the bounds it is at them.
Foreign = Annotated[AwareDatetime, AfterValidator(lambda moment: min(max(moment, FIRST), LAST))]
Seconds = Annotated[float, Field(ge=0, le=10 * 366 * 86400.0)]
HOURS_FROM_S = 7200.0


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
