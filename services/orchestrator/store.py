"""SQL of the orchestrator's own tables: hand-overs, containment, decisions, reclaims. That of rune failures: rune_failures.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.orchestrator.steps import Step
from shared.contracts.verify import AdapterBanished, AdapterVerified

if TYPE_CHECKING:
    from services.orchestrator.scheduling.decision import Decision
    from services.orchestrator.steps import Answers
    from shared.storage.postgres import Connection, Pool

RECENT = 20  # hand-overs that the estimate of the next one is made from


@dataclass(frozen=True, slots=True)
class OpenHandover:
    """A hand-over whose holder is gone and after which inference is not back."""

    fence: int
    probes_before: dict[str, Answers]  #: by rune; empty where no model was asked


@dataclass(frozen=True, slots=True)
class RestoredHandover:
    """A hand-over after which inference is back."""

    fence: int
    ritual: UUID
    persona: str
    attempt: int
    released_at: datetime
    seconds_without_inference: float
    memory_restored: int
    probes_before: dict[str, Answers]
    probes_after: dict[str, Answers]


@dataclass(frozen=True, slots=True)
class HandoverStart:
    """When a hand-over began, and the memory in use before it, in bytes."""

    began_at: datetime
    memory_before: int


async def insert_handover(conn: Connection, anvil: str, fence: int, ritual: UUID, attempt: int) -> None:
    await conn.execute(
        "INSERT INTO hand_over (anvil, fence, ritual, attempt) VALUES ($1, $2, $3, $4)", anvil, fence, ritual, attempt
    )


async def record_suspended(
    conn: Connection, anvil: str, fence: int, memory_before: int, expected_s: float | None
) -> bool:
    """Record that inference goes down now. True the first time, so that it is announced once."""
    return bool(
        await conn.fetchval(
            "UPDATE hand_over SET suspended_at = clock_timestamp(), memory_before = $3, expected_s = $4 "
            "WHERE anvil = $1 AND fence = $2 AND suspended_at IS NULL RETURNING true",
            anvil,
            fence,
            memory_before,
            expected_s,
        )
    )


async def record_probes_before(pool: Pool, anvil: str, fence: int, answers: dict[str, Answers]) -> None:
    """Record the answers of every rune's models before the hand-over; the first answers are kept."""
    await pool.execute(
        "UPDATE hand_over SET probes_before = coalesce(probes_before, $3) WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        answers,
    )


async def record_probes_after(pool: Pool, anvil: str, fence: int, rune: str, answers: Answers) -> None:
    """Record the answers of one rune's models after the hand-over; the last answers are kept."""
    await pool.execute(
        "UPDATE hand_over SET probes_after = coalesce(probes_after, '{}') || jsonb_build_object($3::text, $4::jsonb) "
        "WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        rune,
        answers,
    )


async def record_evacuated(conn: Connection | Pool, anvil: str, fence: int, memory_after: int) -> None:
    await conn.execute(
        "UPDATE hand_over SET evacuated_at = clock_timestamp(), memory_after = $3 WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        memory_after,
    )


async def record_found_running(pool: Pool, anvil: str, fence: int) -> int:
    """Count that a rune was found running while its anvil was held. Returns the count of this hand-over."""
    count: int | None = await pool.fetchval(
        "UPDATE hand_over SET found_running = found_running + 1 WHERE anvil = $1 AND fence = $2 RETURNING found_running",
        anvil,
        fence,
    )
    return count or 0


async def record_released(conn: Connection, anvil: str, fence: int) -> None:
    await conn.execute(
        "UPDATE hand_over SET released_at = clock_timestamp() WHERE anvil = $1 AND fence = $2", anvil, fence
    )


async def record_restored(conn: Connection, anvil: str, memory: int) -> list[RestoredHandover]:
    """Close every released hand-over of this anvil and return them; inference answers again."""
    rows = await conn.fetch(
        "UPDATE hand_over h SET restored_at = clock_timestamp(), memory_restored = $2, seconds_without_inference = "
        "coalesce(extract(epoch FROM clock_timestamp() - coalesce((SELECT min(s.began_at) FROM hand_over_step s "
        "WHERE s.anvil = h.anvil AND s.fence = h.fence AND s.step = $3), suspended_at)), 0)::float8 "
        "WHERE anvil = $1 AND released_at IS NOT NULL AND restored_at IS NULL "
        "RETURNING fence, ritual, (SELECT persona FROM ritual WHERE id = h.ritual) AS persona, attempt, released_at, "
        "seconds_without_inference, memory_restored, coalesce(probes_before, '{}') AS probes_before, "
        "coalesce(probes_after, '{}') AS probes_after",
        anvil,
        memory,
        Step.CLOSE,
    )
    return [RestoredHandover(**dict(row)) for row in rows]


async def get_open_handover(pool: Pool, anvil: str) -> OpenHandover | None:
    """The latest hand-over whose holder is gone and after which inference is not back."""
    row = await pool.fetchrow(
        "SELECT fence, coalesce(probes_before, '{}') AS probes_before FROM hand_over "
        "WHERE anvil = $1 AND released_at IS NOT NULL AND restored_at IS NULL ORDER BY fence DESC LIMIT 1",
        anvil,
    )
    return OpenHandover(**dict(row)) if row else None


async def get_handover_start(pool: Pool, anvil: str, fence: int) -> HandoverStart:
    [row] = await pool.fetch(
        "SELECT began_at, coalesce(memory_before, 0) AS memory_before FROM hand_over WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
    )
    return HandoverStart(**dict(row))


async def get_expected_s(pool: Pool, anvil: str, fence: int) -> float:
    """Seconds until inference is expected back; 0 where it was expected before now, or nothing is expected."""
    left: float | None = await pool.fetchval(
        "SELECT greatest(expected_s - extract(epoch FROM clock_timestamp() - suspended_at), 0)::float8 "
        "FROM hand_over WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
    )
    return left or 0.0


async def list_past_away_s(pool: Pool, anvil: str) -> list[float]:
    """Seconds without inference of the latest complete hand-overs (up to a verdict), the latest first."""
    rows = await pool.fetch(
        "SELECT seconds_without_inference AS s FROM hand_over h WHERE anvil = $1 AND restored_at IS NOT NULL "
        "AND EXISTS (SELECT FROM ritual_fact f WHERE f.ritual = h.ritual AND f.attempt = h.attempt "
        "AND f.subject = ANY ($2::text[])) ORDER BY restored_at DESC LIMIT $3",
        anvil,
        [AdapterVerified.subject, AdapterBanished.subject],
        RECENT,
    )
    return [row["s"] for row in rows]


async def get_away_s(pool: Pool, anvil: str, since: datetime) -> float:
    """Seconds without inference since that moment; a hand-over that began before it counts from then on."""
    total: float = await pool.fetchval(
        "SELECT coalesce(sum(extract(epoch FROM coalesce(restored_at, clock_timestamp()) - greatest(suspended_at, $2))), 0)::float8 "
        "FROM hand_over WHERE anvil = $1 AND suspended_at IS NOT NULL AND coalesce(restored_at, clock_timestamp()) > $2",
        anvil,
        since,
    )
    return total


async def record_containment(conn: Connection, anvil: str, reason: str, failures: int, until_accepted: bool) -> bool:
    """Keep rituals from the anvil. True the first time, so that the alarm is sent once."""
    return bool(
        await conn.fetchval(
            "INSERT INTO containment (anvil, reason, failures, until_accepted) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (anvil) DO UPDATE SET reason = excluded.reason, failures = excluded.failures, "
            "until_accepted = excluded.until_accepted RETURNING xmax = 0",
            anvil,
            reason,
            failures,
            until_accepted,
        )
    )


async def delete_containment(pool: Pool, anvil: str, accepted: bool) -> str | None:
    """End a containment and return its reason; one that waits for acceptance only where `accepted`."""
    reason: str | None = await pool.fetchval(
        "DELETE FROM containment WHERE anvil = $1 AND (NOT until_accepted OR $2) RETURNING reason", anvil, accepted
    )
    return reason


async def get_containment(pool: Pool, anvil: str) -> str | None:
    """The reason why rituals are kept from the anvil, or None."""
    reason: str | None = await pool.fetchval("SELECT reason FROM containment WHERE anvil = $1", anvil)
    return reason


async def record_decision(pool: Pool, ritual: UUID, decision: Decision) -> None:
    """Record the latest decision about a waiting ritual; one with the same reason at most every ten seconds."""
    await pool.execute(
        "INSERT INTO decision (ritual, verdict, reason, until, measures) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (ritual) "
        "DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason, until = excluded.until, "
        "measures = excluded.measures, decided_at = clock_timestamp() "
        "WHERE decision.reason <> excluded.reason OR decision.decided_at < clock_timestamp() - interval '10 seconds'",
        ritual,
        decision.verdict,
        decision.reason,
        decision.until,
        {"cause": decision.cause, **decision.measures},
    )


async def record_reclaim(pool: Pool, anvil: str, why: str, hold_s: float, requested_at: datetime) -> bool:
    """Record that the anvil is reclaimed now. The newest request counts: it may shorten or end an earlier one.

    False where this request or a newer one is recorded: it was delivered again.
    """
    return bool(
        await pool.fetchval(
            "INSERT INTO reclaim (anvil, why, requested_at, until) "
            "VALUES ($1, $2, $4, clock_timestamp() + make_interval(secs => $3)) "
            "ON CONFLICT (anvil) DO UPDATE SET why = excluded.why, requested_at = excluded.requested_at, "
            "recorded_at = clock_timestamp(), until = excluded.until "
            "WHERE reclaim.requested_at < excluded.requested_at RETURNING true",
            anvil,
            why,
            hold_s,
            requested_at,
        )
    )


async def get_reclaim(pool: Pool, anvil: str) -> str | None:
    """Why the anvil was reclaimed from its present holder; None when it was not since the holder took it."""
    why: str | None = await pool.fetchval(
        "SELECT why FROM reclaim JOIN public.lease USING (anvil) WHERE anvil = $1 AND recorded_at > acquired_at", anvil
    )
    return why


async def get_reclaimed_until(pool: Pool, anvil: str) -> datetime | None:
    """Until when no ritual may take the anvil; None when one may."""
    until: datetime | None = await pool.fetchval(
        "SELECT until FROM reclaim WHERE anvil = $1 AND until > clock_timestamp()", anvil
    )
    return until


async def list_unserved(pool: Pool) -> frozenset[str]:
    """The versions of adapters that no persona is served by, as the registry publishes them: nothing loads them."""
    return frozenset(row["name"] for row in await pool.fetch("SELECT name FROM unserved_version"))
