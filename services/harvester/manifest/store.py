"""SQL of the manifest: the admitted records in order, and what is counted of them. Reads a harvest's temporary tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.harvester.golden_paths.join import CHECKS, GOLDEN, MESSAGES, TOOLS
from services.harvester.reasons import Reason
from services.harvester.split import Split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.storage.postgres import Connection

BATCH = 250  # records in memory at a time
EXAMPLES = 3  # ids of each reason that a refusal names
MOST = 5  # sessions and sources named in the statistics


def _shown(part: str, name: str) -> str:
    """SQL: the name as a file may hold it, with placeholders where something was found in it."""
    return f"coalesce((SELECT shown FROM alias WHERE alias.part = '{part}' AND alias.name = {name}), {name})"


_REDACTED_MESSAGES = f"coalesce(s.redacted -> 'messages', {MESSAGES})::text"
_REDACTED_TOOLS = f"coalesce(s.redacted -> 'tools', {TOOLS})::text"
LIST_USED = f"""
    SELECT {_shown("id", "a.karma")}, {_shown("session", "a.session")}, a.side, a.feedback,
        {_REDACTED_MESSAGES} AS messages, {_REDACTED_TOOLS} AS tools, coalesce(s.redacted -> 'checks', {CHECKS})::text AS checks,
        (SELECT {_REDACTED_MESSAGES} FROM vectors.karma k JOIN scanned s ON s.karma = k.id {GOLDEN} WHERE k.id = a.rejected
        ) AS rejected,
        a.answers, EXISTS (SELECT FROM contradicted WHERE a.karma = one OR a.karma = other) AS contradicted,
        coalesce(s.redacted ->> 'why', k.why), coalesce(coalesce(s.redacted -> 'outcome', k.outcome) ->> 'evidence', ''),
        coalesce({_shown("consecrated_by", "k.consecrated_by")}, '')
    FROM admission a JOIN scanned s USING (karma) JOIN vectors.karma k ON k.id = a.karma {GOLDEN}
    WHERE a.reason IS NULL ORDER BY a.created_at, a.karma
"""


@dataclass(frozen=True)
class UsedRow:
    """An admitted record; messages, tools, checks and the rejected conversation are JSON."""

    karma: str
    session: str
    side: Split
    feedback: str | None
    messages: str
    tools: str
    checks: str | None
    rejected: str | None
    answers: list[int] | None  #: messages that are trained besides: answers of records that it goes on from
    contradicted: bool  #: another used record answers the same prompt in a contradicting way
    why: str
    evidence: str
    consecrated_by: str


@dataclass(frozen=True)
class Counts:
    """What was seen and left out; `mark` is the time of the newest record."""

    seen: int
    used: int
    redacted: int
    mark: datetime | None
    excluded: dict[str, int]


@dataclass(frozen=True)
class Side:
    """Used records on one side of the split: how many, of how many lineages, and one of their sessions."""

    records: int
    lineages: int
    session: str


async def list_used(conn: Connection) -> AsyncIterator[list[UsedRow]]:
    """The admitted records in order of time, in batches."""
    cursor = await conn.cursor(LIST_USED)
    while rows := await cursor.fetch(BATCH):
        yield [UsedRow(row[0], row[1], Split(row[2]), *row[3:]) for row in rows]


async def count(conn: Connection) -> Counts:
    row = await conn.fetchrow(
        "SELECT count(*) AS seen, count(*) FILTER (WHERE reason IS NULL) AS used, "
        "count(*) FILTER (WHERE reason IS NULL AND found IS NOT NULL) AS redacted, max(created_at) AS mark FROM admission"
    )
    assert row is not None, "an aggregate has a row"
    excluded = await conn.fetch(
        "SELECT reason, count(*) FROM admission WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason"
    )
    return Counts(row["seen"], row["used"], row["redacted"], row["mark"], dict(excluded))


async def count_contradictions(conn: Connection) -> int:
    """Pairs of admitted records that contradict each other."""
    return int(await conn.fetchval("SELECT count(*) FROM contradicted"))


async def list_examples(conn: Connection) -> dict[str, tuple[str, ...]]:
    """reason -> the ids of the first records that were left out for it."""
    rows = await conn.fetch(
        "SELECT reason, ARRAY("
        f"SELECT {_shown('id', 'karma')} FROM unnest(ids[1:{EXAMPLES}]) WITH ORDINALITY AS first (karma, place) ORDER BY place) "
        "FROM (SELECT reason, array_agg(karma ORDER BY created_at, karma) AS ids FROM admission "
        "WHERE reason IS NOT NULL GROUP BY reason) AS excluded"
    )
    return {reason: tuple(ids) for reason, ids in rows}


async def count_sides(conn: Connection) -> dict[Split, Side]:
    rows = await conn.fetch(
        f"SELECT side, records, lineages, {_shown('session', 'session')} FROM ("
        "SELECT side, count(*) AS records, count(DISTINCT lineage) AS lineages, min(session) AS session FROM admission "
        "WHERE reason IS NULL GROUP BY side) AS used"
    )
    return {Split(side): Side(*values) for side, *values in rows}


async def count_lengths(conn: Connection) -> list[tuple[Split, int, int]]:
    """(side, tokens, how many admitted records)."""
    rows = await conn.fetch("SELECT side, tokens, count(*) FROM admission WHERE reason IS NULL GROUP BY side, tokens")
    return [(Split(side), tokens, records) for side, tokens, records in rows]


async def get_longest(conn: Connection) -> tuple[int, int]:
    """Tokens of the longest admitted record to train on, and those that 99 of 100 do not exceed."""
    row = await conn.fetchrow(
        "SELECT coalesce(max(tokens), 0), coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY tokens), 0) FROM admission "
        "WHERE reason IS NULL AND side = 'train'"
    )
    assert row is not None, "an aggregate has a row"
    return row[0], row[1]


async def count_by(conn: Connection, column: str) -> dict[str, int]:
    """How many records outside the holdout have each `source` or `kind`."""
    return dict(
        await conn.fetch(
            f"SELECT {_shown(column, column)}, count(*) FROM admission WHERE reason IS NULL AND side <> 'holdout' GROUP BY {column}"
        )
    )


async def count_largest(conn: Connection, column: str) -> dict[str, int]:
    """The sessions or sources with most training records."""
    return dict(
        await conn.fetch(
            f"SELECT {_shown(column, column)}, count(*) AS used FROM admission WHERE reason IS NULL AND side = 'train' "
            f"GROUP BY {column} ORDER BY used DESC, {column} LIMIT {MOST}"
        )
    )


async def count_found(conn: Connection, *, quarantined: bool) -> dict[str, int]:
    """How often each class of secret or personal data was found in admitted records, or in those held back for it."""
    held = f"reason IN ('{Reason.SECRET}', '{Reason.PERSONAL}')" if quarantined else "reason IS NULL"
    return dict(
        await conn.fetch(
            "SELECT f.key, sum(f.value::int) FROM admission CROSS JOIN LATERAL jsonb_each_text(found) AS f "
            f"WHERE {held} GROUP BY f.key ORDER BY f.key"
        )
    )
