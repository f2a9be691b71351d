"""A step of the database's clock, as every lease sees it: all of its times are that much the other way."""

from __future__ import annotations

from typing import Any

STEP = (
    "UPDATE public.lease SET acquired_at = acquired_at - make_interval(secs => $1), "
    "renewed_at = renewed_at - make_interval(secs => $1), expires_at = expires_at - make_interval(secs => $1) "
    "WHERE ritual IS NOT NULL"
)


async def step_clock(source: Any, seconds: float) -> int:
    """Step the clock by `seconds`, forwards or back. Returns how many leases were held."""
    done: str = await source.execute(STEP, float(seconds))
    return int(done.split()[-1])
