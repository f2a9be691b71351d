"""What readers may see of the ledger: rituals with the moment at which they were read, and their recorded facts.

Every function works on any connection, whatever its search path, and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact
from shared.contracts.ritual import FACTS, NEEDS_ANVIL, State
from shared.ritual.ledger import as_fact

if TYPE_CHECKING:
    from shared.storage.postgres import Source

FACTS_BY_SUBJECT = {kind.subject: kind for kind in FACTS}


@dataclass(frozen=True)
class RitualStatus:
    """A ritual at `now`, on the database's clock, which also wrote the other times."""

    id: UUID
    persona: str
    intent_body: dict[str, Any]
    priority: int
    state: State
    attempt: int
    trace_id: str
    cancel_requested_at: datetime | None
    paused_at: datetime | None
    paused_why: str | None
    created_at: datetime
    entered_at: datetime
    ended_at: datetime | None
    now: datetime

    @property
    def intent(self) -> TrainingIntent:
        """Raises ValidationError where the row cannot be read."""
        return TrainingIntent.model_validate(self.intent_body)

    @property
    def paused(self) -> bool:
        """Whether it is kept from the anvil; later than that, a pause changes nothing."""
        return self.paused_at is not None and self.state in NEEDS_ANVIL


@dataclass(frozen=True)
class RecordedFact:
    """A fact as the ledger recorded it, without its spans."""

    fact: Fact
    owner: str
    state_before: str
    state_after: str
    started_at: datetime
    stated_at: datetime

    @property
    def moved(self) -> bool:
        """Whether the fact changed the ritual's state; others only inform."""
        return self.state_before != self.state_after


@dataclass(frozen=True)
class RitualError:
    """The errors of a service with an open ritual, in a row."""

    ritual: UUID
    owner: str
    count: int
    error: str
    last_at: datetime
    retry_at: datetime


@dataclass(frozen=True)
class Lineage:
    """What a ritual made: its manifest with the holdout, and its adapter, by digest; None where it got no further.

    A ritual has one per adapter that it trained, or one.
    """

    ritual: UUID
    persona: str
    state: State
    ended_at: datetime | None
    manifest: str | None
    holdout: str | None
    harvested_at: datetime | None
    adapter: str | None


_RITUAL = (
    "id, persona, intent AS intent_body, priority, state, attempt, trace_id, cancel_requested_at, paused_at, paused_why, "
    "created_at, entered_at, ended_at, clock_timestamp() AS now"
)


async def get_ritual(source: Source, ritual: UUID) -> RitualStatus | None:
    row = await source.fetchrow(f"SELECT {_RITUAL} FROM public.ritual WHERE id = $1", ritual)
    return _as_ritual(row) if row else None


async def get_newest(source: Source) -> UUID | None:
    ritual: UUID | None = await source.fetchval("SELECT id FROM public.ritual ORDER BY created_at DESC LIMIT 1")
    return ritual


async def list_matching(source: Source, prefix: str) -> list[UUID]:
    """Rituals whose id starts with this lower-case hex without dashes, the newest first, two at most."""
    rows = await source.fetch(
        "SELECT id FROM public.ritual WHERE replace(id::text, '-', '') LIKE $1 || '%' ORDER BY created_at DESC LIMIT 2",
        prefix,
    )
    return [row["id"] for row in rows]


async def list_rituals(source: Source, limit: int) -> list[RitualStatus]:
    """The newest rituals first."""
    rows = await source.fetch(f"SELECT {_RITUAL} FROM public.ritual ORDER BY created_at DESC LIMIT $1", limit)
    return [_as_ritual(row) for row in rows]


async def list_open_rituals(source: Source) -> list[RitualStatus]:
    """The rituals under way, the most urgent first."""
    rows = await source.fetch(
        f"SELECT {_RITUAL} FROM public.ritual WHERE ended_at IS NULL ORDER BY priority DESC, created_at"
    )
    return [_as_ritual(row) for row in rows]


async def list_interruptions(source: Source) -> dict[UUID, GpuInterrupted]:
    """What interrupted the attempt before, of the rituals that wait for the next one."""
    rows = await source.fetch(
        "SELECT f.ritual, r.persona, f.attempt, f.body FROM public.ritual_fact f JOIN public.ritual r ON r.id = f.ritual "
        "WHERE r.state = $1 AND f.subject = $2 AND f.attempt = r.attempt - 1",
        State.HARVESTED,
        GpuInterrupted.subject,
    )
    return {row["ritual"]: as_fact(GpuInterrupted, row) for row in rows}


async def list_facts(source: Source, ritual: UUID) -> list[RecordedFact]:
    """Every fact about a ritual in the order in which it was recorded."""
    rows = await source.fetch(
        "SELECT f.subject, f.owner, f.ritual, r.persona, f.attempt, f.state_before, f.state_after, f.body - 'spans' AS body, "
        "f.started_at, f.stated_at FROM public.ritual_fact f JOIN public.ritual r ON r.id = f.ritual "
        "WHERE f.ritual = $1 ORDER BY f.stated_at, f.subject",
        ritual,
    )
    return [
        RecordedFact(
            as_fact(FACTS_BY_SUBJECT[row["subject"]], row),
            *(row[name] for name in ("owner", "state_before", "state_after", "started_at", "stated_at")),
        )
        for row in rows
    ]


async def get_last_isolation(source: Source) -> tuple[str, ...]:
    """The isolation of the job that ended last; empty before the first."""
    found = await source.fetchval(
        "SELECT body -> 'isolation' FROM public.ritual_fact WHERE body -> 'isolation' <> '[]' ORDER BY stated_at DESC LIMIT 1"
    )
    return tuple(found or ())


async def list_lineages(source: Source) -> list[Lineage]:
    """What every ritual made."""
    rows = await source.fetch(
        "SELECT r.id AS ritual, r.persona, r.state, r.ended_at, h.body ->> 'manifest' AS manifest, "
        "h.body ->> 'holdout' AS holdout, h.stated_at AS harvested_at, f.body ->> 'adapter' AS adapter FROM public.ritual r "
        "LEFT JOIN public.ritual_fact h ON h.ritual = r.id AND h.subject = $1 "
        "LEFT JOIN public.ritual_fact f ON f.ritual = r.id AND f.subject = $2",
        KarmaHarvested.subject,
        AdapterForged.subject,
    )
    return [Lineage(**{**row, "state": State(row["state"])}) for row in rows]


async def list_errors(source: Source) -> list[RitualError]:
    """The errors in a row of all open rituals, the oldest ritual first."""
    rows = await source.fetch(
        "SELECT e.ritual, e.owner, e.count, e.error, e.last_at, e.retry_at FROM public.ritual_error e "
        "JOIN public.ritual r ON r.id = e.ritual WHERE r.ended_at IS NULL AND e.version = r.version "
        "ORDER BY r.created_at, e.owner"
    )
    return [RitualError(**row) for row in rows]


def _as_ritual(row: Any) -> RitualStatus:
    return RitualStatus(**{**row, "state": State(row["state"])})
