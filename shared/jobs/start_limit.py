"""The time after which a job must not start: the end of the lease under which it was launched.

A job has neither network nor database. It compares two readings of one clock: CLOCK_BOOTTIME, which every process of a
machine shares, which counts while the machine sleeps and which nobody sets. Of the database's clock only a difference
is used. A container engine that gives each container a kernel of its own has another clock there: the check is void then.
"""

from __future__ import annotations

import time

from pydantic import Field

from shared.contracts.frozen import Frozen


class GpuJob(Frozen):
    """What `job.json` of every job on an anvil has."""

    start_before: float | None = Field(None, description="By `boot_time`; its service sets it. None: at any time.")


class LateStartError(Exception):
    """The job began after the end of its lease: another job may be on the anvil by now."""


def boot_time() -> float:
    """Seconds since the boot of this machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def require_in_time(job: GpuJob) -> None:
    """Call it before the job touches a device. Raises LateStartError."""
    if job.start_before is not None and (late_s := boot_time() - job.start_before) > 0:
        raise LateStartError(
            f"the job began {late_s:.0f} s after the end of its lease, so it left the anvil alone: the machine was "
            "stalled meanwhile, or it is too slow for lease_ttl_s under [runtime] in soulforge.toml"
        )
