"""Compute embeddings in the background: rows without one are read, embedded outside of any transaction, written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from services.harvester.embedding.embedder import Embedder, EmbedderFailed, EmbedderMissing
from services.harvester.embedding.model import MODEL, WORDLESS
from services.harvester.embedding.search import use_vectors
from shared.ritual import lease
from shared.runtime.loops import Loop

if TYPE_CHECKING:
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Pool

log = structlog.get_logger()

BATCH = 256
LOOK_S = 5.0  # between two queries for rows; also how soon a freed anvil is seen
FAILED_S = 60.0
MISSING_S = 600.0

# The model reads 256 word pieces, some 1000 characters. Of a longer talk its beginning and its end are kept:
# the question and the answer distinguish records, the middle rarely does.
HEAD = 600
TAIL = 600
_TURNS = ("user", "assistant", "tool")

_MISSING = """
    SELECT id, messages, xmin::text AS version FROM vectors.karma
    WHERE embedding IS NULL AND status <> 'revoked' AND ($2::text IS NULL OR persona = $2) ORDER BY created_at, id LIMIT $1
"""
# Only while the row is as it was read: another process may have embedded or changed it.
_WRITE = """
    UPDATE vectors.karma SET embedding = $3, embedding_model = $4
    WHERE id = $1 AND embedding IS NULL AND xmin::text = $2
"""


def embedding_loop(context: ServiceContext, embedder: Embedder) -> Loop:
    """The loop that embeds rows without an embedding. It rests while a ritual holds the anvil."""
    return Loop("embedding", partial(embed_pass, context, embedder), LOOK_S)


async def embed_pass(context: ServiceContext, embedder: Embedder) -> float:
    """Make one pass over the rows; the seconds until the next."""
    try:
        if await lease.get_lease(context.pool, context.configuration.forge):
            await embedder.end()  # the machine is the trainer's now
            return LOOK_S
        return 0 if await embed_missing(context.pool, embedder, BATCH) else LOOK_S
    except EmbedderMissing as error:
        log.error("embedding impossible", error=str(error))
        return MISSING_S
    except EmbedderFailed as error:
        log.error("embedding failed", error=str(error))
        return FAILED_S


async def embed_missing(pool: Pool, embedder: Embedder, limit: int, persona: str | None = None) -> int:
    """Embed up to `limit` rows of a persona or of all, the oldest first; how many were handled, 0 when none lacks an embedding.

    A row without words that the model knows gets a mark in place of an embedding, so that it is not read again. Raises
    EmbedderMissing, EmbedderFailed and what asyncpg raises; may be repeated.
    """
    rows = await pool.fetch(_MISSING, limit, persona)
    texts = [(row["id"], row["version"], embedding_text(row["messages"])) for row in rows]
    spoken = [text for text in texts if text[2]]
    vectors = await embedder.embed([text for _, _, text in spoken])
    read = {id: vector for (id, _, _), vector in zip(spoken, vectors, strict=True) if vector.any()}
    values: list[tuple[Any, ...]] = [
        (id, version, read[id], MODEL) if id in read else (id, version, [0.0], WORDLESS) for id, version, _ in texts
    ]
    async with pool.acquire() as conn:
        await use_vectors(conn)
        await conn.executemany(_WRITE, values)
    if rows:
        log.info("embedded", records=len(read), wordless=len(rows) - len(read))
    return len(rows)


def embedding_text(messages: Any) -> str:
    """The words of all turns but the system prompt, calls included, one turn a line; '' for what is no conversation.

    Rows come from any component, so any JSON value is taken and never raises.
    """
    if not isinstance(messages, list):
        return ""
    text = "\n".join(words for message in messages if (words := _words(message)))
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    # A lone surrogate is no character; the tokenizer refuses it.
    return text.encode("utf-8", "replace").decode("utf-8")


def _words(message: Any) -> str:
    if not isinstance(message, dict) or message.get("role") not in _TURNS:
        return ""
    content, calls = message.get("content"), message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    parts = [
        content,
        *(part for one in functions if isinstance(one, dict) for part in (one.get("name"), one.get("arguments"))),
    ]
    return " ".join(word for part in parts if isinstance(part, str) for word in part.split())
