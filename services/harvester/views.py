"""What readers may see of the harvester: karma records, manifests and their use, and how near a persona is to a ritual.

Every function works on any connection, whatever its search path, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.harvester.auto_trigger.policy import TriggerDecision, TriggerState, decide_trigger
from services.harvester.auto_trigger.store import get_trigger_states, list_new_karma
from services.harvester.ingest.consent import list_manifests_of, list_rituals_of
from services.harvester.ingest.karma import COLUMNS
from services.harvester.settings import TriggerSettings
from shared.contracts.karma import KarmaRecord

if TYPE_CHECKING:
    from services.harvester.auto_trigger.policy import TriggerPolicy
    from shared.storage.postgres import Source

__all__ = [
    "TriggerDecision",
    "TriggerSettings",
    "list_manifests_of",
    "list_rituals_of",
]  # what readers need of other modules


@dataclass(frozen=True, slots=True)
class KnownRecord:
    """What is known of a record. Without a persona it is not remembered, only revoked."""

    id: str
    persona: str | None = None
    status: str | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset manifest with the number of records in each part."""

    digest: str
    persona: str
    train: int
    dev: int
    held_out: int
    created_at: datetime
    holdout: str


@dataclass(frozen=True, slots=True)
class PersonaCounts:
    """What one persona remembers. `newest`: when its newest record came to be."""

    persona: str
    records: int
    white_truths: int
    speculative: int
    rejected: int
    revoked: int
    corrections: int
    sessions: int
    newest: datetime


async def list_records(source: Source, ids: Iterable[str]) -> dict[str, KnownRecord]:
    """Those of the ids that are remembered, revoked, or both."""
    rows = await source.fetch(
        "SELECT id, k.persona, k.status, r.revoked_at, r.revoked_by, r.why FROM unnest($1::text[]) AS id "
        "LEFT JOIN vectors.karma k USING (id) LEFT JOIN harvester.revocation r ON r.karma = id "
        "WHERE k.id IS NOT NULL OR r.karma IS NOT NULL",
        list(ids),
    )
    return {row["id"]: KnownRecord(**row) for row in rows}


async def list_unrevoked(source: Source, ids: Iterable[str]) -> list[str]:
    """Those of the ids that are not revoked yet."""
    rows = await source.fetch(
        "SELECT id FROM unnest($1::text[]) AS id WHERE id NOT IN (SELECT karma FROM harvester.revocation)", list(ids)
    )
    return [row["id"] for row in rows]


async def list_speculative(source: Source, sources: Iterable[str], persona: str | None) -> list[str]:
    """The ids of the speculative records of these sources, of one persona where it is given."""
    rows = await source.fetch(
        "SELECT id FROM vectors.karma WHERE source = ANY ($1::text[]) AND ($2::text IS NULL OR persona = $2) "
        "AND status = 'speculative' ORDER BY id",
        list(sources),
        persona,
    )
    return [row["id"] for row in rows]


async def list_karma(source: Source, ids: Iterable[str]) -> dict[str, KarmaRecord]:
    """The records of these ids that are remembered. Raises pydantic's ValidationError for one that breaks the contract."""
    rows = await source.fetch(
        f"SELECT to_jsonb(k)::text AS record FROM (SELECT {', '.join(COLUMNS)} FROM vectors.karma WHERE id = ANY ($1::text[])) k",
        list(ids),
    )
    records = [KarmaRecord.model_validate_json(row["record"]) for row in rows]
    return {record.id: record for record in records}


async def list_persona_counts(source: Source) -> list[PersonaCounts]:
    """How much karma each persona remembers, by status."""
    rows = await source.fetch(
        "SELECT persona, count(*) AS records, count(*) FILTER (WHERE status = 'white_truth') AS white_truths, "
        "count(*) FILTER (WHERE status = 'speculative') AS speculative, "
        "count(*) FILTER (WHERE status = 'rejected') AS rejected, count(*) FILTER (WHERE status = 'revoked') AS revoked, "
        "count(*) FILTER (WHERE parent IS NOT NULL) AS corrections, count(DISTINCT session) AS sessions, max(created_at) AS newest "
        "FROM vectors.karma GROUP BY persona ORDER BY persona"
    )
    return [PersonaCounts(**row) for row in rows]


async def list_decisions(source: Source, policy: TriggerPolicy) -> dict[str, TriggerDecision]:
    """What the automatic trigger decides now about each persona that has a white truth."""
    states, now = await get_trigger_states(source), datetime.now(UTC)
    return {
        karma.persona: decide_trigger(karma, policy, states.get(karma.persona, TriggerState()), now)
        for karma in await list_new_karma(source)
    }


async def list_manifests(source: Source) -> list[Manifest]:
    """Every dataset manifest, the newest first."""
    rows = await source.fetch(
        "SELECT digest, persona, train, dev, held_out, created_at, holdout FROM harvester.manifest ORDER BY created_at DESC, digest"
    )
    return [Manifest(**row) for row in rows]


async def list_contradictions(source: Source, ritual: UUID) -> list[tuple[str, str]]:
    """Pairs of records that a ritual uses and that contradict each other, each with the lesser id first."""
    rows = await source.fetch(
        "SELECT one, other FROM harvester.contradiction WHERE ritual = $1 ORDER BY one, other", ritual
    )
    return [(row["one"], row["other"]) for row in rows]


async def count_excluded(source: Source, ritual: UUID) -> dict[str, int]:
    """Karma records that were left out of a ritual, by reason."""
    rows = await source.fetch(
        "SELECT reason, count(*) AS records FROM harvester.exclusion WHERE ritual = $1 GROUP BY reason ORDER BY records DESC, reason",
        ritual,
    )
    return {row["reason"]: row["records"] for row in rows}
