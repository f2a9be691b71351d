"""Queries about anvils: their leases, hand-overs, containment, and the decisions about when a ritual takes one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool

    Source = Connection | Pool

Answers = dict[str, dict[str, str | None]]  # rune -> model -> what it answered to the probe


@dataclass(frozen=True)
class HandOverStep:
    """One step of a hand-over. `part` is the rune or queue that it was about, `detail` the figures that it found."""

    step: str
    part: str
    began_at: datetime
    ended_at: datetime | None
    tries: int
    detail: dict[str, Any]


@dataclass(frozen=True)
class HandOver:
    """One hand-over of an anvil with its steps. Memory in bytes; a time that is None has not come."""

    anvil: str
    fence: int
    attempt: int
    began_at: datetime
    suspended_at: datetime | None
    evacuated_at: datetime | None
    released_at: datetime | None
    restored_at: datetime | None
    memory_before: int | None
    memory_after: int | None
    memory_restored: int | None
    expected_s: float | None
    probes_before: Answers | None
    probes_after: Answers | None
    seconds_without_inference: float | None
    steps: tuple[HandOverStep, ...] = ()


@dataclass(frozen=True)
class Decision:
    """The last decision about when a ritual takes the anvil: `now`, `wait` or `refused`, and from which measures."""

    verdict: str
    reason: str
    until: datetime | None
    measures: dict[str, Any]
    decided_at: datetime


@dataclass(frozen=True)
class LeaseHolder:
    """The ritual that holds an anvil; not `live`: its lease expired."""

    ritual: UUID
    persona: str
    attempt: int
    fence: int
    live: bool


@dataclass(frozen=True)
class Containment:
    """Why no ritual takes an anvil; `until_accepted`: until a user accepts it, else until it serves again."""

    reason: str
    failures: int
    until_accepted: bool
    since: datetime


@dataclass(frozen=True)
class Reclaim:
    """A user's demand for an anvil: no ritual takes it before `until`."""

    why: str
    until: datetime


@dataclass(frozen=True)
class Anvil:
    """The state of an anvil. `open_fence` is that of a hand-over after which inference is not back yet."""

    name: str
    now: datetime
    holder: LeaseHolder | None = None
    containment: Containment | None = None
    reclaim: Reclaim | None = None
    open_fence: int | None = None


@dataclass(frozen=True)
class Restoration:
    """How far inference is on its way back after one hand-over; `step` is the one under way."""

    now: datetime
    released_at: datetime | None
    restored_at: datetime | None
    seconds_without_inference: float | None
    step: str | None
    part: str | None
    contained: str | None


async def list_hand_overs(source: Source, ritual: UUID) -> list[HandOver]:
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
    found: dict[tuple[str, int], list[HandOverStep]] = {}
    for step in steps:
        values = {name: step[name] for name in HandOverStep.__dataclass_fields__}
        found.setdefault((step["anvil"], step["fence"]), []).append(HandOverStep(**values))
    return [HandOver(**row, steps=tuple(found.get((row["anvil"], row["fence"]), ()))) for row in rows]


async def get_decision(source: Source, ritual: UUID) -> Decision | None:
    """The last decision about when the ritual takes the anvil; None before the first."""
    row = await source.fetchrow(
        "SELECT verdict, reason, until, measures, decided_at FROM orchestrator.decision WHERE ritual = $1", ritual
    )
    return Decision(**row) if row else None


async def get_anvil(source: Source, name: str) -> Anvil:
    """The state of an anvil; one that the database knows nothing of is free."""
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
    holder = LeaseHolder(row["ritual"], row["persona"], row["attempt"], row["fence"], row["live"])
    containment = Containment(row["contained"], row["failures"], row["until_accepted"], row["since"])
    return Anvil(
        name,
        row["now"],
        holder if row["ritual"] else None,
        containment if row["contained"] is not None else None,
        Reclaim(row["reclaim_why"], row["reclaimed_until"]) if row["reclaimed_until"] else None,
        row["open_fence"],
    )


async def get_restoration(source: Source, anvil: str, fence: int) -> Restoration | None:
    """How far one hand-over is on its way back; None where there is no such hand-over."""
    row = await source.fetchrow(
        "SELECT clock_timestamp() AS now, h.released_at, h.restored_at, h.seconds_without_inference, "
        "s.step, s.part, c.reason AS contained FROM orchestrator.hand_over h "
        "LEFT JOIN LATERAL (SELECT step, part FROM orchestrator.hand_over_step s WHERE s.anvil = h.anvil "
        "AND s.fence = h.fence AND s.ended_at IS NULL ORDER BY s.began_at DESC LIMIT 1) s ON true "
        "LEFT JOIN orchestrator.containment c ON c.anvil = h.anvil WHERE h.anvil = $1 AND h.fence = $2",
        anvil,
        fence,
    )
    return Restoration(**row) if row else None
