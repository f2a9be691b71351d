"""Give every white truth that names a trace its golden path, or the reason why it has none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from services.harvester.golden_paths.phoenix import Phoenix, open_phoenix
from services.harvester.trajectories.path import GoldenPath, rebuild
from services.harvester.trajectories.spans import NoPathError, Span, Trace

if TYPE_CHECKING:
    from shared.storage.postgres import Pool

log = structlog.get_logger()

BATCH = 100
RETRIES = 200  # of old problems in one filling: traces that Phoenix has forgotten must not slow every harvest
RETRY_AFTER = timedelta(minutes=5)
# What comes of attributes that no contract checked: anyone may record a span.
FOREIGN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
SETTLED_AFTER = timedelta(minutes=2)  # a parent's span comes last; one that has not come by then is elsewhere

_TRUTH = "k.persona = $1 AND k.status = 'white_truth' AND k.trace_id IS NOT NULL"
_PATH = "golden_path g ON g.karma = k.id AND g.trace_id = k.trace_id"
_COLUMNS = """k.id, k.trace_id, k.messages -> -1 ->> 'content' AS answer,
    coalesce(k.messages -> -1 ->> 'tool_calls', '[]') <> '[]' AS ends_in_call, (
    SELECT m ->> 'content'
    FROM jsonb_array_elements(CASE jsonb_typeof(k.messages) WHEN 'array' THEN k.messages END) WITH ORDINALITY AS said (m, place)
    WHERE m ->> 'role' = 'user' ORDER BY place DESC LIMIT 1) AS question"""
NEW = (
    f"SELECT {_COLUMNS} FROM vectors.karma k LEFT JOIN {_PATH} "
    f"WHERE {_TRUTH} AND g.karma IS NULL AND k.id > $2 ORDER BY k.id LIMIT $3"
)
OLD_PROBLEMS = (
    f"SELECT {_COLUMNS} FROM vectors.karma k JOIN {_PATH} "
    f"WHERE {_TRUTH} AND g.messages IS NULL AND g.read_at < clock_timestamp() - $2::interval ORDER BY g.read_at LIMIT $3"
)
# Only for the record as it was read: consent may have been withdrawn while Phoenix was asked.
KEEP = (
    "INSERT INTO golden_path AS g (karma, trace_id, messages, tools, steps, pruned, problem) "
    "SELECT id, trace_id, $3, $4, $5, $6, $7 FROM vectors.karma WHERE id = $1 AND trace_id = $2 AND status = 'white_truth' "
    "ON CONFLICT (karma) DO UPDATE SET trace_id = excluded.trace_id, messages = excluded.messages, tools = excluded.tools, "
    "steps = excluded.steps, pruned = excluded.pruned, problem = excluded.problem, read_at = clock_timestamp() "
    "WHERE g.messages IS NULL OR g.trace_id <> excluded.trace_id RETURNING true"
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What one filling did: paths rebuilt, and records left with a problem."""

    rebuilt: int = 0
    problems: int = 0


async def fill(pool: Pool, phoenix_url: str, persona: str) -> Filled:
    """Rebuild what is missing; may be repeated at any time. Raises PhoenixError, keeping what was rebuilt before it."""
    rebuilt = problems = 0
    async with open_phoenix(phoenix_url) as phoenix:
        async for row in _due(pool, persona):
            path = await _read(phoenix, row)
            if await _keep(pool, row, path):
                rebuilt += isinstance(path, GoldenPath)
                problems += isinstance(path, str)
    if rebuilt or problems:
        log.info("golden_paths_read", persona=persona, rebuilt=rebuilt, problems=problems)
    return Filled(rebuilt, problems)


async def _due(pool: Pool, persona: str) -> AsyncIterator[Any]:
    """Records whose trace was never read, then the longest waiting problems."""
    last = ""
    while rows := await pool.fetch(NEW, persona, last, BATCH):
        for row in rows:
            yield row
        last = rows[-1]["id"]
    for row in await pool.fetch(OLD_PROBLEMS, persona, RETRY_AFTER, RETRIES):
        yield row


async def _read(phoenix: Phoenix, row: Any) -> GoldenPath | str:
    """The path, or why there is none."""
    try:
        if row["ends_in_call"]:
            # A trace leads on from there, to what its owner has not vouched for.
            raise NoPathError("the record ends in a call of a tool: it is used as it is, without a path")
        spans = await phoenix.spans(_otel(row["trace_id"]))
        _settled(spans, datetime.now(UTC))
        return await asyncio.to_thread(rebuild, spans, row["answer"], row["question"])
    except NoPathError as problem:
        return str(problem)
    except FOREIGN as error:
        return f"the trace is not as a known instrumentation writes one ({type(error).__name__})"


def _otel(trace_id: str) -> str:
    """A trace id as OpenTelemetry writes it; some keep it in the form of a UUID."""
    plain = trace_id.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{32}", plain):
        raise NoPathError("trace_id is no OpenTelemetry trace id of 32 hexadecimal digits")
    return plain


def _settled(spans: list[Span], now: datetime) -> None:
    if not Trace(spans).whole and now - max(span.ended_at for span in spans) < SETTLED_AFTER:
        raise NoPathError("the trace is still being written")


async def _keep(pool: Pool, row: Any, path: GoldenPath | str) -> bool:
    try:
        return await _store(pool, row, path)
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError):
        return await _store(pool, row, "the trace holds characters that PostgreSQL cannot keep")


async def _store(pool: Pool, row: Any, path: GoldenPath | str) -> bool:
    values = (None, [], 0, 0, path) if isinstance(path, str) else (*_values(path), None)
    return bool(await pool.fetchval(KEEP, row["id"], row["trace_id"], *values))


def _values(path: GoldenPath) -> tuple[Any, ...]:
    messages = [
        message.model_dump(mode="json", exclude_defaults=True) | {"role": message.role} for message in path.messages
    ]
    return messages, list(path.tools), path.steps, path.pruned
