"""Read-only views of the orchestrator's tables for other programs; the command line reads only these.

Every function works on any connection, whatever its search path, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.orchestrator.handover.probes import differing, missing
from services.orchestrator.scheduling.decision import Measures, Verdict
from services.orchestrator.steps import Answers, Detail, Step

if TYPE_CHECKING:
    from shared.storage.postgres import Source

__all__ = [
    "Answers",
    "Detail",
    "Measures",
    "Step",
    "Verdict",
    "differing",
    "missing",
]  # what readers need of other modules


@dataclass(frozen=True, slots=True)
class HandoverStep:
    """One step. `part` is the rune or queue it was about, `detail` the figures that it found."""

    step: Step
    part: str
    began_at: datetime
    ended_at: datetime | None
    tries: int
    detail: Detail


@dataclass(frozen=True, slots=True)
class Handover:
    """The receipt of one hand-over; a time that is None has not come. Memory in bytes, answers by rune and model."""

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
    seconds_without_inference: float | None
    probes_before: dict[str, Answers] | None
    probes_after: dict[str, Answers] | None
    steps: tuple[HandoverStep, ...] = ()  #: in the order in which they began


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """The latest decision about a ritual that waits for the anvil."""

    verdict: Verdict
    reason: str
    until: datetime | None
    measures: Measures
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an anvil; `live` is false once the lease expired."""

    ritual: UUID
    persona: str
    attempt: int
    fence: int
    live: bool


@dataclass(frozen=True, slots=True)
class Containment:
    """Why rituals are kept from an anvil; `until_accepted`: it serves, and its owner has to accept it as it is."""

    reason: str
    failures: int
    until_accepted: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Why and until when no ritual takes an anvil."""

    why: str
    until: datetime


@dataclass(frozen=True, slots=True)
class AnvilStatus:
    """An anvil at `now`, on the database's clock. `open_fence` is that of a hand-over after which inference is not restored."""

    name: str
    now: datetime
    holder: Holder | None = None
    containment: Containment | None = None
    reclaim: Reclaim | None = None
    open_fence: int | None = None


@dataclass(frozen=True, slots=True)
class Restoration:
    """The progress of a restoration; `step` and `part` name the current step."""

    now: datetime
    released_at: datetime | None
    restored_at: datetime | None
    seconds_without_inference: float | None
    step: Step | None
    part: str | None
    contained: str | None


async def list_handovers(source: Source, ritual: UUID) -> list[Handover]:
    """The ritual's hand-overs in order, each with its steps."""
    rows = await source.fetch(
        "SELECT anvil, fence, attempt, began_at, suspended_at, evacuated_at, released_at, restored_at, memory_before, "
        "memory_after, memory_restored, expected_s, seconds_without_inference, probes_before, probes_after "
        "FROM orchestrator.hand_over WHERE ritual = $1 ORDER BY began_at",
        ritual,
    )
    steps = await source.fetch(
        "SELECT s.anvil, s.fence, s.step, s.part, s.began_at, s.ended_at, s.tries, s.detail "
        "FROM orchestrator.hand_over_step s JOIN orchestrator.hand_over h USING (anvil, fence) "
        "WHERE h.ritual = $1 ORDER BY s.began_at, s.ended_at",
        ritual,
    )
    own: dict[tuple[str, int], list[HandoverStep]] = {(row["anvil"], row["fence"]): [] for row in rows}
    for step in steps:
        columns = {name: step[name] for name in ("part", "began_at", "ended_at", "tries", "detail")}
        own[step["anvil"], step["fence"]].append(HandoverStep(step=Step(step["step"]), **columns))
    return [Handover(**dict(row), steps=tuple(own[row["anvil"], row["fence"]])) for row in rows]


async def list_away_s(source: Source, rituals: Iterable[UUID]) -> dict[UUID, float]:
    """Seconds without inference by ritual, of those whose hand-overs are over."""
    rows = await source.fetch(
        "SELECT ritual, sum(seconds_without_inference) AS s FROM orchestrator.hand_over "
        "WHERE ritual = ANY ($1::uuid[]) AND seconds_without_inference IS NOT NULL GROUP BY ritual",
        list(rituals),
    )
    return {row["ritual"]: row["s"] for row in rows}


async def get_decision(source: Source, ritual: UUID) -> RecordedDecision | None:
    """The latest decision about when the ritual takes the anvil; None before the first."""
    row = await source.fetchrow(
        "SELECT verdict, reason, until, measures, decided_at FROM orchestrator.decision WHERE ritual = $1", ritual
    )
    return RecordedDecision(**{**dict(row), "verdict": Verdict(row["verdict"])}) if row else None


async def get_anvil_status(source: Source, anvil: str) -> AnvilStatus:
    """The holder of an anvil, what keeps rituals from it, and whether inference serves; also of one without any row."""
    row = await source.fetchrow(
        "SELECT clock_timestamp() AS now, l.ritual, r.persona, l.attempt, l.fence, is_live(l) AS live, "
        "c.reason, c.failures, c.until_accepted, c.since, w.why, w.until, "
        "(SELECT max(h.fence) FROM orchestrator.hand_over h WHERE h.anvil = n.anvil AND h.restored_at IS NULL) AS open_fence "
        "FROM (SELECT $1::text AS anvil) n LEFT JOIN public.lease l ON l.anvil = n.anvil AND l.ritual IS NOT NULL "
        "LEFT JOIN public.ritual r ON r.id = l.ritual LEFT JOIN orchestrator.containment c ON c.anvil = n.anvil "
        "LEFT JOIN orchestrator.reclaim w ON w.anvil = n.anvil AND w.until > clock_timestamp()",
        anvil,
    )
    assert row is not None  # it is joined to one row of values
    return AnvilStatus(
        name=anvil,
        now=row["now"],
        holder=Holder(row["ritual"], row["persona"], row["attempt"], row["fence"], row["live"])
        if row["ritual"]
        else None,
        containment=Containment(row["reason"], row["failures"], row["until_accepted"], row["since"])
        if row["reason"] is not None
        else None,
        reclaim=Reclaim(row["why"], row["until"]) if row["until"] else None,
        open_fence=row["open_fence"],
    )


async def get_restoration(source: Source, anvil: str, fence: int) -> Restoration | None:
    """The progress of one restoration; None where there is no hand-over with that fence."""
    row = await source.fetchrow(
        "SELECT clock_timestamp() AS now, h.released_at, h.restored_at, h.seconds_without_inference, "
        "s.step, s.part, c.reason AS contained FROM orchestrator.hand_over h "
        "LEFT JOIN LATERAL (SELECT step, part FROM orchestrator.hand_over_step s WHERE s.anvil = h.anvil "
        "AND s.fence = h.fence AND s.ended_at IS NULL ORDER BY s.began_at DESC LIMIT 1) s ON true "
        "LEFT JOIN orchestrator.containment c ON c.anvil = h.anvil WHERE h.anvil = $1 AND h.fence = $2",
        anvil,
        fence,
    )
    return Restoration(**{**dict(row), "step": Step(row["step"]) if row["step"] else None}) if row else None
