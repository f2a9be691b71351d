"""Points in time that come from outside: bounded to what PostgreSQL, and a sum of them with a duration, can hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

FIRST, END = datetime(1900, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


def _bounded(time: datetime) -> datetime:
    if not FIRST <= time < END:
        raise ValueError(f"not between the years {FIRST.year} and {END.year - 1}")
    return time


def _assume_utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_bounded)]
MomentOrUtc = Annotated[datetime, AfterValidator(_assume_utc), AfterValidator(_bounded)]
"""A moment that may come without a time zone: it is taken as UTC, whatever zone this machine is in."""
