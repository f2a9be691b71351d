"""Queries about anvils: their leases, hand-overs, containment, and the decisions about when a ritual takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from shared.postgres import Connection, Pool

    Source = Connection | Pool


async def list_hand_overs(source: Source, ritual: UUID) -> list[dict[str, Any]]:
    """The ritual's hand-overs in order, each with its steps in the order in which they began."""
    rows = await source.fetch(
        "SELECT anvil, fence, attempt, began_at, suspended_at, evacuated_at, released_at, restored_at, memory_before, "
        "memory_after, memory_restored, expected_s, probes_before, probes_after, seconds_without_inference "
        "FROM orchestrator.hand_over WHERE ritual = $1 ORDER BY began_at",
        ritual,
    )
    steps = await source.fetch(
        "SELECT s.anvil, s.fence, s.step, s.part, s.began_at, s.ended_at, s.tries, s.detail "
        "FROM orchestrator.hand_over_step s JOIN orchestrator.hand_over h USING (anvil, fence) "
        "WHERE h.ritual = $1 ORDER BY s.began_at, s.ended_at",
        ritual,
    )
    return [
        {
            **row,
            "steps": [dict(step) for step in steps if (step["anvil"], step["fence"]) == (row["anvil"], row["fence"])],
        }
        for row in rows
    ]


async def get_decision(source: Source, ritual: UUID) -> dict[str, Any] | None:
    """What was last decided about when the ritual takes the anvil; None before the first decision."""
    row = await source.fetchrow(
        "SELECT verdict, reason, until, measures, decided_at FROM orchestrator.decision WHERE ritual = $1", ritual
    )
    return dict(row) if row else None


async def get_anvil(source: Source, name: str) -> dict[str, Any]:
    """How an anvil stands; every column is there, and null where it says nothing. `open_fence`: inference is not back."""
    row = await source.fetchrow(
        "SELECT clock_timestamp() AS now, l.ritual, l.attempt, l.fence, l.expires_at > clock_timestamp() AS live, r.persona, "
        "c.reason AS contained, c.failures, c.until_accepted, c.since, "
        "w.why AS reclaim_why, w.until AS reclaimed_until, "
        "(SELECT max(h.fence) FROM orchestrator.hand_over h WHERE h.anvil = n.anvil AND h.restored_at IS NULL) AS open_fence "
        "FROM (SELECT $1::text AS anvil) n LEFT JOIN lease l ON l.anvil = n.anvil AND l.ritual IS NOT NULL "
        "LEFT JOIN ritual r ON r.id = l.ritual LEFT JOIN orchestrator.containment c ON c.anvil = n.anvil "
        "LEFT JOIN orchestrator.reclaim w ON w.anvil = n.anvil AND w.until > clock_timestamp()",
        name,
    )
    assert row is not None  # it is joined to one row of values
    return dict(row)


async def get_restoration(source: Source, anvil: str, fence: int) -> dict[str, Any] | None:
    """How far one hand-over is on its way back: when it was released and restored, and the step that goes on now."""
    row = await source.fetchrow(
        "SELECT clock_timestamp() AS now, h.released_at, h.restored_at, h.seconds_without_inference, "
        "s.step, s.part, c.reason AS contained FROM orchestrator.hand_over h "
        "LEFT JOIN LATERAL (SELECT step, part FROM orchestrator.hand_over_step s WHERE s.anvil = h.anvil "
        "AND s.fence = h.fence AND s.ended_at IS NULL ORDER BY s.began_at DESC LIMIT 1) s ON true "
        "LEFT JOIN orchestrator.containment c ON c.anvil = h.anvil WHERE h.anvil = $1 AND h.fence = $2",
        anvil,
        fence,
    )
    return dict(row) if row else None


async def get_lease(source: Source, anvil: str) -> dict[str, Any] | None:
    """Who holds the anvil; `ritual` is None when nobody does."""
    row = await source.fetchrow(
        "SELECT l.ritual, l.attempt, l.fence, l.expires_at > clock_timestamp() AS live, r.persona "
        "FROM lease l LEFT JOIN ritual r ON r.id = l.ritual WHERE l.anvil = $1",
        anvil,
    )
    return dict(row) if row else None
