"""One harvest from start to end: take in what is missing, then scan, deduplicate, admit and write in one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.harvester.admission.admit import admit
from services.harvester.dedup import find_near_duplicates
from services.harvester.embedding.embedder import EmbedderMissing
from services.harvester.embedding.keep import embed_missing
from services.harvester.embedding.model import MODEL
from services.harvester.embedding.search import within
from services.harvester.golden_paths.fill import fill
from services.harvester.golden_paths.phoenix import PhoenixError
from services.harvester.ingest import source_view
from services.harvester.manifest.compile import Compiled, compile_manifest
from services.harvester.request import HarvestRequest
from services.harvester.scan.scanner import RecordScanner
from services.harvester.scan_karma import scan_karma
from shared.storage.artifacts import PRUNING
from shared.storage.postgres import open_pool

if TYPE_CHECKING:
    from services.harvester.embedding.embedder import Embedder
    from services.harvester.policy import HarvestPolicy
    from services.harvester.request import OnProgress
    from shared.contracts.intent import TrainingIntent
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext
    from shared.storage.artifacts import Artifacts
    from shared.storage.postgres import Connection

log = structlog.get_logger()

PHOENIX_PATIENCE = timedelta(minutes=5)
EMBEDDED_AT_ONCE = 256
LIMIT_S = 3600  # a statement over millions of records may take minutes on a small machine
# Compiling statements takes longer than it saves here, and small temporary tables should not go through the disk.
SERVER_SETTINGS = {"jit": "off", "work_mem": "128MB", "temp_buffers": "128MB"}


@asynccontextmanager
async def harvest_connection(url: str, persona: str) -> AsyncIterator[Connection]:
    """The connection of one harvest, one at a time of a persona; its temporary tables end with it.

    Until its outcome is recorded nothing in the Lab is pruned: what it publishes may exist already. Raises UNREACHABLE
    errors, also where another harvest of the persona, or pruning, goes on for longer than the lock timeout.
    """
    pool = await open_pool(url, "harvester", 1, LIMIT_S, SERVER_SETTINGS)
    try:
        async with pool.acquire() as conn:
            await conn.execute("SELECT pg_advisory_lock_shared(hashtextextended($1, 0))", PRUNING)
            await conn.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"harvest of {persona}")
            yield conn
    finally:
        await pool.close()


async def prepare(
    context: ServiceContext,
    ritual: Ritual,
    policy: HarvestPolicy,
    view: str | None,
    embedder: Embedder,
    on_progress: OnProgress,
) -> HarvestRequest:
    """Take in what is elsewhere or missing: karma of the view, golden paths, embeddings.

    Raises ViewError, PhoenixError, EmbedderMissing and EmbedderFailed; may be repeated.
    """
    intent = ritual.intent
    if view:
        await source_view.absorb(context.pool, view)
    await _rebuild_golden_paths(context, ritual)
    if policy.likeness.by_meaning or intent.query:
        await _embed(context, ritual.persona, embedder, on_progress)
    wanted = await _find_wanted(context, ritual.persona, intent, embedder)
    return HarvestRequest(ritual.persona, intent, policy, context.configuration.suites, wanted)


async def harvest(conn: Connection, request: HarvestRequest, artifacts: Artifacts, on_progress: OnProgress) -> Compiled:
    """Compile the manifest of a request. May be repeated at any time.

    All of it sees one snapshot of the database, so what is written is what was scanned. The temporary table `admission`
    stays on the connection: the outcome is recorded from it.
    """
    async with conn.transaction(isolation="repeatable_read"):
        await judge(conn, request, on_progress)
        return await compile_manifest(conn, request, artifacts, partial(on_progress, "writing"))


async def judge(conn: Connection, request: HarvestRequest, on_progress: OnProgress) -> None:
    """Decide about every record of the persona, into the temporary table `admission`. In the caller's transaction."""
    policy = request.policy
    scanner = await asyncio.to_thread(RecordScanner, policy.redaction, request.suites, policy.likeness.by_words)
    await scan_karma(conn, request.persona, policy.purpose, scanner, partial(on_progress, "scanning"))
    await find_near_duplicates(conn, request.persona, policy.likeness, partial(on_progress, "comparing"))
    on_progress("admitting", 0, 1)
    await admit(conn, request)


async def _rebuild_golden_paths(context: ServiceContext, ritual: Ritual) -> None:
    """Where Phoenix does not answer for long, the records are used as they are."""
    try:
        await fill(context.pool, context.settings.phoenix_url, ritual.persona)
    except PhoenixError as error:
        if datetime.now(UTC) - ritual.created_at < PHOENIX_PATIENCE:
            raise
        log.warning("harvest goes on without golden paths", ritual=str(ritual.id), error=str(error))


async def _embed(context: ServiceContext, persona: str, embedder: Embedder, on_progress: OnProgress) -> None:
    """Give every record an embedding: what is found by meaning must not depend on how far the background got."""
    total = await context.pool.fetchval(
        "SELECT count(*) FROM vectors.karma WHERE persona = $1 AND embedding IS NULL AND status <> 'revoked'", persona
    )
    done = 0
    while some := await embed_missing(context.pool, embedder, EMBEDDED_AT_ONCE, persona):
        done += some
        on_progress("embedding", done, max(done, total))


async def _find_wanted(
    context: ServiceContext, persona: str, intent: TrainingIntent, embedder: Embedder
) -> list[str] | None:
    if not intent.query:
        return None
    vector = (await embedder.embed([intent.query]))[0]
    if not vector.any():
        raise EmbedderMissing(f"{MODEL} does not know the words of the query: ask in English")
    async with context.pool.acquire() as conn:
        found = await within(conn, persona, MODEL, vector, intent.query_likeness)
    return [neighbour.karma for neighbour in found]
