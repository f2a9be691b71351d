"""One harvest from start to end: take in what lies elsewhere, read, compare, decide, write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from services.harvester import foreign, store
from services.harvester.again import kept
from services.harvester.embedding.keep import embed_missing
from services.harvester.embedding.model import MODEL
from services.harvester.embedding.search import within
from services.harvester.golden.fill import fill
from services.harvester.golden.phoenix import PhoenixError
from services.harvester.likeness.near import compare
from services.harvester.manifest.compile import Compiled, compile_manifest
from services.harvester.manifest.write import ChangedMeanwhile, Job
from services.harvester.order import Order
from services.harvester.reading.catch_up import catch_up
from services.harvester.reading.way import Way
from services.harvester.refusal import refusal
from services.harvester.wide import open_wide_pool
from services.harvester.workers import Workers
from shared.storage.artifacts import Artifacts

if TYPE_CHECKING:
    from services.harvester.embedding.embedder import Embedder
    from services.harvester.policy import HarvestPolicy
    from services.harvester.settings import HarvesterSettings
    from shared.contracts.intent import TrainingIntent
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Pool

log = structlog.get_logger()

Heard = Callable[[str, int, int], None]
PHOENIX_PATIENCE = timedelta(minutes=5)
EMBEDDED_AT_ONCE = 256
TRIES = 3  # of a harvest beside which records change


async def harvest(
    context: ServiceContext,
    ritual: Ritual,
    intent: TrainingIntent,
    policy: HarvestPolicy,
    settings: HarvesterSettings,
    embedder: Embedder,
    heard: Heard,
) -> tuple[Compiled, str | None]:
    """The manifest of a ritual, and why it is not enough to train on where it is not. May be repeated at any time.

    `heard` is told the phase, and how many records of how many are done.
    """
    if settings.view:
        await foreign.absorb(context.pool, settings.view)
    await _golden_paths(context, ritual)
    if policy.likeness.by_meaning or intent.query:
        await _embedded(context, ritual.persona, embedder, heard)
    wanted = await _wanted(context, ritual.persona, intent, embedder)
    order = Order(
        ritual.persona, intent, policy, settings, wanted, context.settings.suites, context.settings.database_url
    )
    pool = await open_wide_pool(context.settings.database_url)
    try:
        return await compile_order(pool, Artifacts(context.settings.home), order, heard)
    finally:
        await pool.close()


async def compile_order(pool: Pool, artifacts: Artifacts, order: Order, heard: Heard) -> tuple[Compiled, str | None]:
    """What the database and the disk alone decide: read, compare, decide, write, and seal what was held out."""
    workers = None
    policy = order.policy
    way = Way(policy.redaction, policy.split.key, order.suites, policy.purpose, policy.likeness.by_words)
    if order.database:
        workers = Workers(order.database, way, order.settings.processes)
    try:
        for _ in range(TRIES - 1):
            with suppress(ChangedMeanwhile):
                return await _compiled(pool, artifacts, order, way, workers, heard)
        return await _compiled(pool, artifacts, order, way, workers, heard)
    finally:
        if workers:
            workers.close()


async def _compiled(
    pool: Pool, artifacts: Artifacts, order: Order, way: Way, workers: Workers | None, heard: Heard
) -> tuple[Compiled, str | None]:
    persona, policy, settings = order.persona, order.policy, order.settings
    reader = await catch_up(pool, persona, way, workers, lambda done, of: heard("reading", done, of))
    heard("comparing", 0, 1)
    if policy.likeness.by_words or policy.likeness.by_meaning:
        if workers:
            workers.close()  # this takes memory and time of its own; they start again where there is much to write
        async with pool.acquire() as conn:
            await compare(conn, persona, policy.likeness)
    heard("deciding", 0, 1)
    job = Job(order, reader, artifacts, workers)
    async with store.decisions(pool, persona) as table:
        compiled = await compile_manifest(pool, job, table, lambda done, of: heard("writing", done, of))
        missing = refusal(compiled, settings.min_train, settings.min_held_out)
        if missing is None and compiled.decision:
            await kept.seal(pool, persona, compiled.decision)
    return compiled, missing


async def _golden_paths(context: ServiceContext, ritual: Ritual) -> None:
    """Rebuild what traces tell. Where Phoenix stays away for long, the records are used as they are."""
    try:
        await fill(context.pool, context.settings.phoenix_url, ritual.persona)
    except PhoenixError as error:
        if datetime.now(UTC) - ritual.created_at < PHOENIX_PATIENCE:
            raise
        log.warning("harvest goes on without golden paths", ritual=str(ritual.id), error=str(error))


async def _embedded(context: ServiceContext, persona: str, embedder: Embedder, heard: Heard) -> None:
    """Have an embedding for every record: what is found by meaning must not depend on how far the background got."""
    total = await context.pool.fetchval(
        "SELECT count(*) FROM vectors.karma WHERE persona = $1 AND embedding IS NULL AND status <> 'revoked'", persona
    )
    done = 0
    while some := await embed_missing(context.pool, embedder, EMBEDDED_AT_ONCE, persona):
        done += some
        heard("embedding", done, max(done, total))


async def _wanted(
    context: ServiceContext, persona: str, intent: TrainingIntent, embedder: Embedder
) -> list[str] | None:
    """The ids that the intent's query asks for; None where it has none."""
    if not intent.query:
        return None
    vector = (await embedder.embed([intent.query]))[0]
    async with context.pool.acquire() as conn:
        found = await within(conn, persona, MODEL, vector.tolist(), intent.query_likeness)
    return [neighbour.karma for neighbour in found]
