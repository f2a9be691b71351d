"""All SQL of the orchestrator: hand-overs and their receipts, failures of runes, containment, decisions, reclaims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime

    from shared.postgres import Connection, Pool

RECENT = 20  # hand-overs that tell how long inference will be away


async def begin(conn: Connection, anvil: str, fence: int, ritual: UUID, attempt: int) -> None:
    await conn.execute(
        "INSERT INTO hand_over (anvil, fence, ritual, attempt) VALUES ($1, $2, $3, $4)", anvil, fence, ritual, attempt
    )


async def suspend(conn: Connection, anvil: str, fence: int, memory_before: int, expected_s: float | None) -> bool:
    """Note that inference goes down now. True the first time, so that it is announced once."""
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


async def remember_probes(pool: Pool, anvil: str, fence: int, answers: dict[str, Any]) -> None:
    """What the models of every rune answered before; the first answers count."""
    await pool.execute(
        "UPDATE hand_over SET probes_before = coalesce(probes_before, $3) WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        answers,
    )


async def remember_probes_after(pool: Pool, anvil: str, fence: int, rune: str, answers: dict[str, Any]) -> None:
    """What the models of one rune answer now; the last answers count."""
    await pool.execute(
        "UPDATE hand_over SET probes_after = coalesce(probes_after, '{}') || jsonb_build_object($3::text, $4::jsonb) "
        "WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        rune,
        answers,
    )


async def evacuated(conn: Connection | Pool, anvil: str, fence: int, memory_after: int) -> None:
    await conn.execute(
        "UPDATE hand_over SET evacuated_at = clock_timestamp(), memory_after = $3 WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        memory_after,
    )


async def released(conn: Connection, anvil: str, fence: int) -> None:
    await conn.execute(
        "UPDATE hand_over SET released_at = clock_timestamp() WHERE anvil = $1 AND fence = $2", anvil, fence
    )


async def open_hand_over(pool: Pool, anvil: str) -> dict[str, Any] | None:
    """The latest hand-over whose holder is gone and after which inference has not come back."""
    row = await pool.fetchrow(
        "SELECT fence, probes_before FROM hand_over WHERE anvil = $1 AND released_at IS NOT NULL "
        "AND restored_at IS NULL ORDER BY fence DESC LIMIT 1",
        anvil,
    )
    return dict(row) if row else None


async def restored(conn: Connection, anvil: str, memory: int) -> list[dict[str, Any]]:
    """Close every released hand-over of this anvil and return it; inference answers again."""
    rows = await conn.fetch(
        "UPDATE hand_over h SET restored_at = clock_timestamp(), memory_restored = $2, seconds_without_inference = "
        "coalesce(extract(epoch FROM clock_timestamp() - coalesce((SELECT min(s.began_at) FROM hand_over_step s "
        "WHERE s.anvil = h.anvil AND s.fence = h.fence AND s.step = 'close'), suspended_at)), 0)::float8 "
        "WHERE anvil = $1 AND released_at IS NOT NULL AND restored_at IS NULL "
        "RETURNING fence, ritual, attempt, released_at, evacuated_at, seconds_without_inference, memory_restored, "
        "probes_before, probes_after, (SELECT persona FROM ritual WHERE id = h.ritual) AS persona",
        anvil,
        memory,
    )
    return [dict(row) for row in rows]


async def beginning(pool: Pool, anvil: str, fence: int) -> tuple[datetime, int]:
    """When the hand-over began, and the memory in use before it, in bytes."""
    rows = await pool.fetch(
        "SELECT began_at, coalesce(memory_before, 0) FROM hand_over WHERE anvil = $1 AND fence = $2", anvil, fence
    )
    return rows[0][0], rows[0][1]


async def past_away_s(pool: Pool, anvil: str) -> list[float]:
    """Seconds without inference of the latest hand-overs that went the whole way, the latest first."""
    rows = await pool.fetch(
        "SELECT seconds_without_inference AS s FROM hand_over h WHERE anvil = $1 AND restored_at IS NOT NULL "
        "AND EXISTS (SELECT FROM ritual_fact f WHERE f.ritual = h.ritual AND f.attempt = h.attempt "
        "AND f.subject IN ('adapter.verified', 'adapter.banished')) ORDER BY restored_at DESC LIMIT $2",
        anvil,
        RECENT,
    )
    return [row["s"] for row in rows]


async def away_since(pool: Pool, anvil: str, since: datetime) -> float:
    """Seconds without inference since that moment; a hand-over that began before it counts from then on."""
    total: float = await pool.fetchval(
        "SELECT coalesce(sum(extract(epoch FROM coalesce(restored_at, clock_timestamp()) - greatest(suspended_at, $2))), 0)::float8 "
        "FROM hand_over WHERE anvil = $1 AND suspended_at IS NOT NULL AND coalesce(restored_at, clock_timestamp()) > $2",
        anvil,
        since,
    )
    return total


async def rune_failed(pool: Pool, anvil: str, rune: str, reason: str) -> int:
    """Count a failure; failures more than ten minutes apart do not add up. Returns the count."""
    count: int = await pool.fetchval(
        "INSERT INTO rune_failure (anvil, rune, count, reason) VALUES ($1, $2, 1, $3) ON CONFLICT (anvil, rune) DO UPDATE SET "
        "count = CASE WHEN rune_failure.at < clock_timestamp() - interval '10 minutes' THEN 1 ELSE rune_failure.count + 1 END, "
        "at = clock_timestamp(), reason = excluded.reason RETURNING count",
        anvil,
        rune,
        reason,
    )
    return count


async def rune_failures(pool: Pool, anvil: str, rune: str) -> int:
    """How often it failed in a row until now."""
    count: int | None = await pool.fetchval(
        "SELECT count FROM rune_failure WHERE anvil = $1 AND rune = $2 AND at > clock_timestamp() - interval '10 minutes'",
        anvil,
        rune,
    )
    return count or 0


async def rune_may_start(pool: Pool, anvil: str, rune: str) -> bool:
    """False while the rune is kept from restarting too fast: 1, 2, 4 … 60 s after each failure in a row."""
    return not await pool.fetchval(
        "SELECT EXISTS (SELECT 1 FROM rune_failure WHERE anvil = $1 AND rune = $2 "
        "AND at + least(power(2, count - 1), 60) * interval '1 second' > clock_timestamp())",
        anvil,
        rune,
    )


async def contain(conn: Connection, anvil: str, reason: str, failures: int, until_accepted: bool) -> bool:
    """Keep the anvil from rituals. True the first time, so that the alarm is given once."""
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


async def lift(pool: Pool, anvil: str, accepted: bool) -> str | None:
    """End a containment, and return what it was for; one that waits to be accepted only where `accepted`."""
    reason: str | None = await pool.fetchval(
        "DELETE FROM containment WHERE anvil = $1 AND (NOT until_accepted OR $2) RETURNING reason", anvil, accepted
    )
    return reason


async def contained(pool: Pool, anvil: str) -> str | None:
    """Why the anvil is kept from rituals, or None."""
    reason: str | None = await pool.fetchval("SELECT reason FROM containment WHERE anvil = $1", anvil)
    return reason


async def decided(
    pool: Pool, ritual: UUID, verdict: str, reason: str, until: datetime | None, measures: dict[str, Any]
) -> None:
    """Remember what was decided about a ritual that waits for the anvil."""
    await pool.execute(
        "INSERT INTO decision (ritual, verdict, reason, until, measures) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (ritual) "
        "DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason, until = excluded.until, "
        "measures = excluded.measures, decided_at = clock_timestamp() "
        "WHERE decision.reason <> excluded.reason OR decision.decided_at < clock_timestamp() - interval '10 seconds'",
        ritual,
        verdict,
        reason,
        until,
        measures,
    )


async def reclaim(pool: Pool, anvil: str, why: str, hold_s: float) -> None:
    """Somebody wants the anvil now; a second demand never shortens the first."""
    await pool.execute(
        "INSERT INTO reclaim (anvil, why, until) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) "
        "ON CONFLICT (anvil) DO UPDATE SET why = excluded.why, requested_at = clock_timestamp(), "
        "until = greatest(reclaim.until, excluded.until)",
        anvil,
        why,
        hold_s,
    )


async def wanted_back(pool: Pool, anvil: str) -> str | None:
    """Why whoever holds the anvil now is to give it back; None when nobody asked since it took it."""
    why: str | None = await pool.fetchval(
        "SELECT why FROM reclaim JOIN public.lease USING (anvil) WHERE anvil = $1 AND requested_at > acquired_at", anvil
    )
    return why


async def reclaimed_until(pool: Pool, anvil: str) -> datetime | None:
    """Until when no ritual takes the anvil; None when one may."""
    until: datetime | None = await pool.fetchval(
        "SELECT until FROM reclaim WHERE anvil = $1 AND until > clock_timestamp()", anvil
    )
    return until
