"""Make every admitted intent a manifest, or a refusal that says what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from services.harvester import store
from services.harvester.compile import Compiled, compile_manifest, refusal
from services.harvester.settings import HarvesterSettings
from shared import ledger
from shared.artifacts import Artifacts
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.message import Fact, Service
from shared.contracts.ritual import State

if TYPE_CHECKING:
    from shared.ledger import Ritual
    from shared.service import Station

log = structlog.get_logger()


async def reconcile(station: Station) -> None:
    for ritual in await ledger.waiting(station.pool, State.INTENDED):
        await _harvest(station, ritual, HarvesterSettings())


async def _harvest(station: Station, ritual: Ritual, settings: HarvesterSettings) -> None:
    started_at = datetime.now(UTC)
    if ritual.cancel_requested_at:
        await station.state_cancelled(ritual)
        return
    async with station.pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        compiled = await compile_manifest(conn, Artifacts(station.settings.home), ritual.persona)
    async with station.pool.acquire() as conn, conn.transaction():
        fact = _judge(ritual, compiled, settings)
        if await ledger.state_fact(conn, fact, Service.HARVESTER, started_at):
            await store.exclude(conn, ritual.id, compiled.exclusions)
            if isinstance(fact, KarmaHarvested):
                await store.seal(conn, ritual.persona, compiled.sealed)
                await store.keep_manifest(conn, fact)
            log.info(
                "harvested", ritual=str(ritual.id), fact=fact.subject, seen=compiled.seen, excluded=compiled.excluded
            )


def _judge(ritual: Ritual, compiled: Compiled, settings: HarvesterSettings) -> Fact:
    if reason := refusal(compiled, settings.min_train, settings.min_held_out):
        return KarmaRefused(
            ritual=ritual.id,
            persona=ritual.persona,
            attempt=ritual.attempt,
            reason=reason,
            seen=compiled.seen,
            excluded=compiled.excluded,
        )
    return KarmaHarvested(
        ritual=ritual.id,
        persona=ritual.persona,
        attempt=ritual.attempt,
        manifest=compiled.manifest,
        holdout=compiled.holdout,
        train=compiled.train,
        dev=compiled.dev,
        held_out=compiled.held_out,
        seen=compiled.seen,
        excluded=compiled.excluded,
    )
