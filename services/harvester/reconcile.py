"""Turn every admitted intent into a manifest, or into a refusal that names what is missing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from services.harvester import store
from services.harvester.embedding.embedder import Embedder, EmbedderMissing
from services.harvester.golden_paths.phoenix import PhoenixError
from services.harvester.harvest import harvest, harvest_connection, prepare
from services.harvester.ingest.consent import announce, list_revoked
from services.harvester.ingest.source_view import ViewError, check_view
from services.harvester.manifest.compile import sweep
from services.harvester.refusal import oversize, shortfall
from services.harvester.rows import File
from services.harvester.settings import HarvesterSettings
from shared.contracts.forge import AdapterFailed
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import RitualProgress
from shared.contracts.message import Fact
from shared.contracts.ritual import State
from shared.ritual import ledger
from shared.runtime.advance import advance_each
from shared.storage.artifacts import Artifacts

if TYPE_CHECKING:
    from services.harvester.manifest.compile import Compiled
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Connection

log = structlog.get_logger()

PROGRESS_S = 1.0  # between two reports of a harvest's progress


class RevokedMeanwhile(Exception):
    """Consent was withdrawn while a manifest was compiled; nothing of the attempt counts."""


#: What ends an attempt, but not the ritual: another harvest of the persona goes on, or Phoenix is away for a while.
POSTPONED = (PhoenixError, RevokedMeanwhile, asyncpg.LockNotAvailableError)


class ProgressReporter:
    """Reports the progress of one harvest: on the bus, at most every PROGRESS_S, and to the health check."""

    def __init__(self, context: ServiceContext, ritual: Ritual) -> None:
        self._context, self._ritual = context, ritual
        self._reported_at = 0.0
        self._publishing: asyncio.Task[None] | None = None

    def report(self, phase: str, done: int, total: int) -> None:
        self._context.reconciled_at = monotonic()
        if monotonic() - self._reported_at < PROGRESS_S:
            return
        self._reported_at = monotonic()
        progress = RitualProgress(
            ritual=self._ritual.id,
            persona=self._ritual.persona,
            job="harvest",
            phase=phase,
            done=done,
            total=total,
            unit="records",
        )
        self._publishing = asyncio.create_task(
            self._context.nats.publish(RitualProgress.subject, progress.model_dump_json().encode())
        )


class Harvester:
    """Compiles the manifests of admitted intents."""

    def __init__(self, context: ServiceContext, settings: HarvesterSettings, embedder: Embedder) -> None:
        self._context, self._settings, self._embedder = context, settings, embedder

    async def start(self) -> None:
        """Remove what a killed harvest left, and log what would refuse every ritual."""
        sweep(Artifacts(self._context.settings.home))
        await _log_wrong_configuration(self._context, self._settings)

    async def reconcile(self) -> None:
        pool = self._context.pool
        try:
            async with pool.acquire() as conn, conn.transaction():
                await announce(conn)
        finally:
            await advance_each(self._context, await ledger.list_rituals(pool, State.INTENDED), self._advance)

    async def _advance(self, ritual: Ritual) -> None:
        if ritual.cancel_requested_at:
            await self._context.record_cancelled(ritual)
            return
        try:
            await _harvest(self._context, ritual, self._settings, self._embedder)
        except POSTPONED as error:
            log.warning("harvest postponed", error=str(error))


async def _log_wrong_configuration(context: ServiceContext, settings: HarvesterSettings) -> None:
    if not settings.view:
        return
    try:
        async with context.pool.acquire() as conn:
            await check_view(conn, settings.view)
    except ViewError as error:
        log.error("wrong configuration: every ritual will be refused", error=str(error))


async def _harvest(context: ServiceContext, ritual: Ritual, settings: HarvesterSettings, embedder: Embedder) -> None:
    started_at = datetime.now(UTC)
    report = ProgressReporter(context, ritual).report
    try:
        request = await prepare(context, ritual, settings.policy, settings.view, embedder, report)
    except ViewError as error:
        await context.record(KarmaRefused(**_of(ritual), reason=str(error)), started_at)
        return
    except EmbedderMissing as error:
        reason = f"{error}; or set harvest.likeness.by_meaning = false in soulforge.toml and ask without a query"
        await context.record(KarmaRefused(**_of(ritual), reason=reason), started_at)
        return
    async with harvest_connection(context.settings.database_url(context.service), ritual.persona) as conn:
        compiled = await harvest(conn, request, Artifacts(context.settings.home), report)
        recipe = context.configuration.recipe(ritual.intent.recipe, ritual.persona)
        missing = shortfall(compiled, settings, recipe.loss)
        fact = _refused(ritual, compiled, missing) if missing else _harvested(ritual, compiled)
        # Here, while inference goes on: the next stage takes the anvil.
        if not missing and (
            too_large := await asyncio.to_thread(oversize, context, ritual.persona, recipe, compiled.longest)
        ):
            fact = AdapterFailed(**_of(ritual), reason=too_large)
        async with conn.transaction():
            recorded = await ledger.record_fact(conn, fact, context.service, started_at)
            if recorded:
                await record_outcome(conn, ritual, compiled, harvested=isinstance(fact, KarmaHarvested))
    if recorded:
        log.info("harvested", ritual=str(ritual.id), fact=fact.subject, seen=compiled.seen, excluded=compiled.excluded)


async def record_outcome(conn: Connection, ritual: Ritual, compiled: Compiled, *, harvested: bool) -> None:
    """Record what the harvest on this connection used and left out, in the transaction that states it.

    Raises RevokedMeanwhile.
    """
    await store.record_exclusions(conn, ritual.id)
    if harvested:
        await store.record_manifest(conn, ritual.persona, compiled)
        await store.seal_holdout(conn, ritual.persona)
        if revoked := await list_revoked(conn, compiled.manifest):
            raise RevokedMeanwhile(f"{len(revoked)} records were revoked during the harvest: it is done again")


def _refused(ritual: Ritual, compiled: Compiled, missing: str) -> Fact:
    return KarmaRefused(**_of(ritual), reason=missing, seen=compiled.seen, excluded=compiled.excluded)


def _harvested(ritual: Ritual, compiled: Compiled) -> Fact:
    return KarmaHarvested(
        **_of(ritual),
        manifest=compiled.manifest,
        holdout=compiled.holdout,
        train=compiled.rows[File.TRAIN],
        dev=compiled.rows[File.DEV],
        held_out=compiled.rows[File.HOLDOUT],
        pairs=compiled.rows[File.PAIRS],
        labels=compiled.rows[File.LABELS],
        tokens=compiled.tokens,
        redacted=compiled.redacted,
        seen=compiled.seen,
        excluded=compiled.excluded,
    )


def _of(ritual: Ritual) -> dict[str, Any]:
    return {"ritual": ritual.id, "persona": ritual.persona, "attempt": ritual.attempt}
