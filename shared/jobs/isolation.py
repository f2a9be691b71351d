"""Whether the jobs of this machine are isolated, and whether they are started where they cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.drivers.containers.port import ContainerError
from shared.runtime.presence import Isolation, JobIsolation

if TYPE_CHECKING:
    from shared.config.tables import JobsConfig
    from shared.drivers.containers.port import Containers

ALLOW = "Or allow_unisolated = true under [jobs] in soulforge.toml: jobs may then read, write and reach whatever their user can."


async def get_isolation(containers: Containers, jobs: JobsConfig) -> JobIsolation:
    """How jobs are started here: unisolated only where they cannot be isolated and the owner allows it."""
    try:
        why = await containers.why_not_isolated()
    except ContainerError as error:
        return JobIsolation(Isolation.REFUSED, str(error))
    if why is None:
        return JobIsolation(Isolation.ISOLATED)
    if jobs.allow_unisolated:
        return JobIsolation(Isolation.UNISOLATED, why)
    return JobIsolation(Isolation.REFUSED, f"{why} {ALLOW}")
