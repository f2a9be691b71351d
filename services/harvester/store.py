"""All SQL of the harvester: karma in, records out in order, exclusions and manifests kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.contracts.karma import KarmaRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from shared.contracts.harvest import KarmaHarvested
    from shared.postgres import Connection, Pool

PREFETCH = 1000
_RECORD = (
    "id, persona, messages, status, outcome, why, consecrated_by, consecrated_at, session, parent, source, licence, "
    "trace_id, created_at"
)


async def links(conn: Connection, persona: str) -> list[tuple[str, str, str | None, str]]:
    """(id, session, parent, status) of everything the persona remembers."""
    rows = await conn.fetch(
        "SELECT id, session, parent, status FROM vectors.karma WHERE persona = $1 ORDER BY id", persona
    )
    return [tuple(row) for row in rows]


async def records(conn: Connection, persona: str) -> AsyncIterator[KarmaRecord]:
    """Every record of a persona by id, streamed; needs an open transaction."""
    async for row in conn.cursor(
        f"SELECT {_RECORD} FROM vectors.karma WHERE persona = $1 ORDER BY id", persona, prefetch=PREFETCH
    ):
        yield KarmaRecord.model_validate(dict(row))


async def exclude(conn: Connection, ritual: UUID, refusals: Iterable[tuple[str, str]]) -> None:
    await conn.executemany(
        "INSERT INTO exclusion (ritual, karma, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        [(ritual, karma, reason) for karma, reason in refusals],
    )


async def sealed(conn: Connection, persona: str) -> set[str]:
    return {row["karma"] for row in await conn.fetch("SELECT karma FROM sealed WHERE persona = $1", persona)}


async def seal(conn: Connection, persona: str, ids: Iterable[str]) -> None:
    await conn.executemany(
        "INSERT INTO sealed (persona, karma) VALUES ($1, $2) ON CONFLICT DO NOTHING", [(persona, id) for id in ids]
    )


async def keep_manifest(conn: Connection, fact: KarmaHarvested) -> None:
    await conn.execute(
        "INSERT INTO manifest (digest, persona, holdout, train, dev, held_out) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        fact.manifest,
        fact.persona,
        fact.holdout,
        fact.train,
        fact.dev,
        fact.held_out,
    )


async def insert(conn: Connection | Pool, record: KarmaRecord) -> bool:
    """Remember a record once. False when its id is known already; a known record is never changed by an import."""
    return bool(
        await conn.fetchval(
            f"INSERT INTO vectors.karma ({_RECORD}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
            "coalesce($14, clock_timestamp())) ON CONFLICT (id) DO NOTHING RETURNING true",
            *_values(record),
        )
    )


def _values(record: KarmaRecord) -> tuple[Any, ...]:
    return (
        record.id,
        record.persona,
        [
            message.model_dump(mode="json", exclude_defaults=True) | {"role": message.role}
            for message in record.messages
        ],
        record.status,
        record.outcome.model_dump(mode="json"),
        record.why,
        record.consecrated_by,
        record.consecrated_at,
        record.session,
        record.parent,
        record.source,
        record.licence,
        record.trace_id,
        record.created_at,
    )


async def statistics(conn: Connection | Pool) -> list[dict[str, Any]]:
    """Counts of karma per persona and status, with sessions and the newest record's time."""
    rows = await conn.fetch(
        "SELECT persona, count(*) AS records, count(*) FILTER (WHERE status = 'white_truth') AS white_truths, "
        "count(*) FILTER (WHERE status = 'speculative') AS speculative, count(*) FILTER (WHERE status = 'revoked') AS revoked, "
        "count(*) FILTER (WHERE parent IS NOT NULL) AS corrections, count(DISTINCT session) AS sessions, max(created_at) AS newest "
        "FROM vectors.karma GROUP BY persona ORDER BY persona"
    )
    return [dict(row) for row in rows]
