"""Scan all karma of a persona into the temporary table `scanned`, one row a record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from services.harvester.golden_paths.join import ABOUT, CHECKS, GOLDEN, MESSAGES, TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.harvester.scan.scanner import RecordScanner
    from shared.storage.postgres import Connection

BATCH = 250  # records in memory at a time
_DOWN = b"-"  # a thumb down makes another lesson of the same words

CREATE_SCANNED = """
    CREATE TEMP TABLE scanned (
        karma      text NOT NULL,
        created_at timestamptz NOT NULL,
        status     text NOT NULL,
        session    text NOT NULL,
        parent     text,
        source     text NOT NULL,
        licence    text NOT NULL,
        kind       text NOT NULL,
        feedback   text,
        consented  boolean NOT NULL,
        consecrated_by text,
        tokens     int NOT NULL,        -- estimated as a quarter of the bytes
        reason     text,                -- why its content keeps it out
        text       bytea,               -- digest of the normalised words
        lesson     bytea,               -- digest of what it trains, and whether as a right or as a wrong answer
        found      jsonb,               -- class of secret or personal data -> how often; never the thing itself
        redacted   jsonb,               -- what of the record holds placeholders, by its name
        ngrams     bigint[] NOT NULL,   -- sampled passages of 13 words
        bands      bigint[] NOT NULL,   -- MinHash bands
        answers    int[] NOT NULL,      -- how many messages lead up to each answer or call, itself included
        beginnings bigint[] NOT NULL    -- digests of the conversation up to each of them
    )
"""
COLUMNS = (
    "karma", "created_at", "status", "session", "parent", "source", "licence", "kind", "feedback", "consented", "consecrated_by",
    "tokens", "reason", "text", "lesson", "found", "redacted", "ngrams", "bands", "answers", "beginnings",
)  # fmt: skip
# A name with a placeholder may be that of several records or sessions: a number tells them apart.
CREATE_ALIAS = """
    CREATE TEMP TABLE alias AS
    SELECT part, name, shown || ' ' || row_number() OVER (PARTITION BY part, shown ORDER BY since, first) AS shown
    FROM (
        SELECT part, name, min(redacted ->> part) AS shown, min(created_at) AS since, min(karma) AS first
        FROM scanned, LATERAL (VALUES ('id', karma), ('session', session), ('source', source), ('kind', kind),
        ('consecrated_by', consecrated_by)) named (part, name)
        WHERE redacted ? part GROUP BY part, name
    ) hidden
"""
SELECT_KARMA = f"""
    SELECT k.id, k.created_at, k.status, k.session, k.parent, k.source, k.licence, k.kind, k.feedback,
        coalesce($2 = ANY (k.purposes), false) AS consented, k.consecrated_by,
        (octet_length({MESSAGES}::text) + 3) / 4 AS tokens,
        {MESSAGES}::text AS messages, {TOOLS}::text AS tools, {CHECKS}::text AS checks, {ABOUT}::text AS about
    FROM vectors.karma k {GOLDEN} WHERE k.persona = $1
"""


async def scan_karma(
    conn: Connection, persona: str, purpose: str, scanner: RecordScanner, on_progress: Callable[[int, int], None]
) -> None:
    """Scan every record of the persona, in the caller's transaction. `on_progress` gets how many of how many are done."""
    await conn.execute(CREATE_SCANNED)
    total = await conn.fetchval("SELECT count(*) FROM vectors.karma WHERE persona = $1", persona)
    cursor = await conn.cursor(SELECT_KARMA, persona, purpose)
    done = 0
    while records := await cursor.fetch(BATCH):
        rows = await asyncio.to_thread(_scan_all, scanner, records)
        await conn.copy_records_to_table("scanned", records=rows, columns=COLUMNS)
        done += len(records)
        on_progress(done, total)
    await conn.execute("CREATE UNIQUE INDEX scanned_karma ON scanned (karma)")
    await conn.execute("ANALYZE scanned")
    await conn.execute(CREATE_ALIAS)
    await conn.execute("ANALYZE alias")


def _scan_all(scanner: RecordScanner, records: list[Any]) -> list[tuple[Any, ...]]:
    return [_row(scanner, record) for record in records]


def _row(scanner: RecordScanner, record: Any) -> tuple[Any, ...]:
    *fields, messages, tools, checks, about = record
    scanned = scanner.scan(messages, tools, checks, about)
    lesson = scanned.lesson and scanned.lesson + _DOWN * (record["feedback"] == "down")
    answers, beginnings = zip(*scanned.beginnings, strict=True) if scanned.beginnings else ((), ())
    return (
        *fields, scanned.reason, scanned.text, lesson, scanned.found, scanned.redacted, scanned.ngrams, scanned.bands,
        answers, beginnings,
    )  # fmt: skip
