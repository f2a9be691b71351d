"""Which services are at work, and whether they start jobs: each writes a row at every pass, which others may read.

Whether jobs can be isolated is known only where they start, which need not be the machine of the orchestrator or of the
command line. So the service that starts them records it, and the others read it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.postgres import Pool, Source


class Isolation(StrEnum):
    """How a service starts its jobs."""

    ISOLATED = "isolated"
    UNISOLATED = "unisolated"  #: they cannot be isolated, and the owner allows that
    REFUSED = "refused"  #: it starts none


@dataclass(frozen=True)
class JobIsolation:
    """How jobs are started in one place. `why` is why they are not isolated."""

    isolation: Isolation
    why: str = ""


async def record_pass(pool: Pool, service: str) -> None:
    """Record that the service's reconciler has completed a pass now."""
    await pool.execute(
        "INSERT INTO service_heartbeat (service) VALUES ($1) "
        "ON CONFLICT (service) DO UPDATE SET passed_at = clock_timestamp()",
        service,
    )


async def list_silent(pool: Pool, services: Iterable[str], within_s: float) -> list[str]:
    """Those of these services that have not completed a pass within that time, in their order."""
    wanted = tuple(services)
    rows = await pool.fetch(
        "SELECT service FROM service_heartbeat WHERE service = ANY ($1::text[]) "
        "AND passed_at > clock_timestamp() - make_interval(secs => $2)",
        list(wanted),
        within_s,
    )
    passed = {row["service"] for row in rows}
    return [service for service in wanted if service not in passed]


async def record_isolation(pool: Pool, service: str, jobs: JobIsolation) -> None:
    """Record how the service starts its jobs now."""
    await pool.execute(
        "INSERT INTO service_heartbeat (service, passed_at, isolation, why) VALUES ($1, '-infinity', $2, $3) "
        "ON CONFLICT (service) DO UPDATE SET isolation = $2, why = $3",
        service,
        jobs.isolation,
        jobs.why,
    )


async def list_isolation(source: Source) -> dict[str, JobIsolation]:
    """How each service that starts jobs last recorded to start them, by service."""
    rows = await source.fetch(
        "SELECT service, isolation, why FROM public.service_heartbeat WHERE isolation IS NOT NULL ORDER BY service"
    )
    return {row["service"]: JobIsolation(Isolation(row["isolation"]), row["why"]) for row in rows}
