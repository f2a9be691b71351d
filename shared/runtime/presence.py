"""Which services are at work: each writes the time of its last complete pass, which others may read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.postgres import Pool


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
