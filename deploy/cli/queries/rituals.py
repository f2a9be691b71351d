"""Queries about rituals, and which ritual a user means. Big timing data (`spans`) stays in the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from deploy.cli.errors import UserError
from services.orchestrator.views import Handover, RecordedDecision, get_decision, list_handovers
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact
from shared.contracts.ritual import FACTS, State

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool

    Source = Connection | Pool

F = TypeVar("F", bound=Fact)
SNAPSHOT_TIMEOUT_S = 5.0
HEX_DIGITS = frozenset("0123456789abcdef")
ID_DIGITS = 32
FACTS_BY_SUBJECT = {kind.subject: kind for kind in FACTS}

_RITUAL = (
    "id, persona, intent, priority, state, attempt, trace_id, cancel_requested_at, created_at, entered_at, ended_at, "
    "clock_timestamp() AS now"
)
# What interrupted the attempt before, while the ritual waits for the next one.
_INTERRUPTION = (
    f"(SELECT f.body FROM ritual_fact f WHERE f.ritual = r.id AND f.subject = '{GpuInterrupted.subject}' "
    f"AND f.attempt = r.attempt - 1 AND r.state = '{State.HARVESTED}') AS interruption"
)


@dataclass(frozen=True)
class Ritual:
    """One row of the ledger. `now` is the database's clock, which also wrote the other times."""

    id: UUID
    persona: str
    intent: TrainingIntent
    priority: int
    state: State
    attempt: int
    trace_id: str
    cancel_requested_at: datetime | None
    created_at: datetime
    entered_at: datetime
    ended_at: datetime | None
    now: datetime


@dataclass(frozen=True)
class ListedRitual(Ritual):
    """A ritual in a list; `interruption` is set while it waits for another attempt after one."""

    interruption: GpuInterrupted | None
    seconds_without_inference: float | None


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
class Snapshot:
    """All that the ledger holds of one ritual at one moment."""

    ritual: Ritual
    facts: tuple[RecordedFact, ...]
    hand_overs: tuple[Handover, ...]
    decision: RecordedDecision | None = None

    @property
    def now(self) -> datetime:
        return self.ritual.now


def hex_prefix(given: str) -> str:
    """The start of an id as lower-case hex without dashes. Raises UserError when it cannot be one."""
    prefix = given.strip().lower().replace("-", "")
    if not prefix or len(prefix) > ID_DIGITS or not HEX_DIGITS.issuperset(prefix):
        raise UserError(f"{given!r} is not a ritual id: give the first digits of one that `soulforge rituals` lists")
    return prefix


def one_of(given: str, found: list[UUID]) -> UUID:
    """The only ritual that `given` can mean. Raises UserError when there is none, or more than one."""
    if not found:
        raise UserError(f"no ritual begins with {given}: `soulforge rituals` lists them")
    if len(found) > 1:
        raise UserError(
            f"{given} is the start of more than one ritual, e.g. {found[0]} and {found[1]}: give more of the id"
        )
    return found[0]


async def find_ritual(pool: Pool, given: str | None) -> UUID:
    """The ritual with an id that starts so, or the newest where none is given. Raises UserError."""
    if given is not None:
        return one_of(given, await list_matching(pool, hex_prefix(given)))
    if newest := await get_newest(pool):
        return newest
    raise UserError("there is no ritual yet: `soulforge intend PERSONA` asks for one")


async def list_matching(source: Source, prefix: str) -> list[UUID]:
    """Rituals whose id starts with this lower-case hex without dashes, the newest first, two at most."""
    rows = await source.fetch(
        "SELECT id FROM ritual WHERE replace(id::text, '-', '') LIKE $1 || '%' ORDER BY created_at DESC LIMIT 2", prefix
    )
    return [row["id"] for row in rows]


async def get_newest(source: Source) -> UUID | None:
    ritual: UUID | None = await source.fetchval("SELECT id FROM ritual ORDER BY created_at DESC LIMIT 1")
    return ritual


async def get_ritual(source: Source, ritual: UUID) -> Ritual | None:
    row = await source.fetchrow(f"SELECT {_RITUAL} FROM ritual WHERE id = $1", ritual)
    return Ritual(**_ritual_values(row)) if row else None


async def get_snapshot(pool: Pool, ritual: UUID) -> Snapshot | None:
    """A consistent snapshot; None when there is no such ritual. Raises UNREACHABLE errors within SNAPSHOT_TIMEOUT_S."""
    async with (
        asyncio.timeout(SNAPSHOT_TIMEOUT_S),
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        row = await get_ritual(conn, ritual)
        if row is None:
            return None
        facts = await list_facts(conn, row)
        hand_overs = await list_handovers(conn, ritual)
        return Snapshot(row, tuple(facts), tuple(hand_overs), await get_decision(conn, ritual))


async def list_facts(source: Source, ritual: Ritual) -> list[RecordedFact]:
    """Every fact about a ritual in the order in which it was recorded."""
    rows = await source.fetch(
        "SELECT subject, owner, attempt, state_before, state_after, body - 'spans' AS body, started_at, stated_at "
        "FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at, subject",
        ritual.id,
    )
    return [
        RecordedFact(
            _fact(FACTS_BY_SUBJECT[row["subject"]], ritual.id, ritual.persona, row["attempt"], row["body"]),
            *(row[name] for name in ("owner", "state_before", "state_after", "started_at", "stated_at")),
        )
        for row in rows
    ]


async def count_excluded(source: Source, ritual: UUID) -> dict[str, int]:
    """Karma records that were left out of a ritual, by reason."""
    rows = await source.fetch(
        "SELECT reason, count(*) AS records FROM harvester.exclusion WHERE ritual = $1 GROUP BY reason ORDER BY records DESC, reason",
        ritual,
    )
    return {row["reason"]: row["records"] for row in rows}


async def list_rituals(source: Source, limit: int) -> list[ListedRitual]:
    """The newest rituals first."""
    return await _list(source, "ORDER BY created_at DESC LIMIT $1", limit)


async def list_open_rituals(source: Source) -> list[ListedRitual]:
    """The rituals under way, the most urgent first."""
    return await _list(source, "WHERE ended_at IS NULL ORDER BY priority DESC, created_at")


async def _list(source: Source, which: str, *values: object) -> list[ListedRitual]:
    rows = await source.fetch(
        f"SELECT {_RITUAL}, {_INTERRUPTION}, "
        "(SELECT sum(seconds_without_inference) FROM orchestrator.hand_over WHERE ritual = r.id) AS seconds_without_inference "
        f"FROM ritual r {which}",
        *values,
    )
    return [
        ListedRitual(
            **_ritual_values(row),
            interruption=_interruption(row),
            seconds_without_inference=row["seconds_without_inference"],
        )
        for row in rows
    ]


def _ritual_values(row: Any) -> dict[str, Any]:
    """The fields of Ritual in a row that may have more."""
    values = {name: row[name] for name in Ritual.__dataclass_fields__}
    return values | {"state": State(row["state"]), "intent": TrainingIntent.model_validate(row["intent"])}


def _interruption(row: Any) -> GpuInterrupted | None:
    if row["interruption"] is None:
        return None
    return _fact(GpuInterrupted, row["id"], row["persona"], row["attempt"] - 1, row["interruption"])


def _fact(kind: type[F], ritual: UUID, persona: str, attempt: int, body: dict[str, Any]) -> F:
    """The fact of a stored body, which is what `Fact.details` gave."""
    return kind.model_validate({**body, "ritual": ritual, "persona": persona, "attempt": attempt})
