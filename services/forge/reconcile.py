"""Make every ritual that holds the anvil an adapter: start its trainer, follow it, state what came of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services.forge.adapter import AdapterError, adapter_digest
from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE, TrainerJob
from services.forge.settings import ForgeSettings
from shared import ledger
from shared.attempts import at_work, unfinished
from shared.base import find_base
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.ritual import State
from shared.jobs import OUTPUT, Finished, JobKind, JobPlan, Jobs, job_containers
from shared.recipe import load_recipe
from shared.watchdog import watch_lease

if TYPE_CHECKING:
    from shared.lease import Lease
    from shared.ledger import Ritual
    from shared.service import Station

ROLE = "trainer"


async def watch(station: Station) -> None:
    await watch_lease(station, job_containers(station), State.EVACUATED, ROLE)


async def reconcile(station: Station, trainer: str) -> None:
    """One look; `trainer` is the module that is run as the job."""
    settings = ForgeSettings()
    kind = JobKind(ROLE, ("-m", trainer), settings.memory_bytes, settings.time_limit_s)
    jobs = Jobs(station, job_containers(station), kind)
    for ritual, held in await at_work(station.pool, State.EVACUATED):
        await _forge(station, jobs, ritual, held, settings)


async def _forge(station: Station, jobs: Jobs, ritual: Ritual, held: Lease, settings: ForgeSettings) -> None:
    if ritual.cancel_requested_at:
        await jobs.stop(ritual)
        await station.state_cancelled(ritual)
        return
    harvested = await ledger.fact_body(station.pool, ritual.id, "karma.harvested")
    if harvested is None:
        raise RuntimeError(f"ritual {ritual.id} holds the anvil without a manifest")
    manifest = jobs.artifacts.manifest(harvested["manifest"])
    base = find_base(station.settings)

    def plan(output: Path) -> JobPlan:
        resume = _earlier_checkpoints(jobs, ritual)
        job = TrainerJob(
            ritual=str(ritual.id),
            attempt=ritual.attempt,
            fence=held.fence,
            base=base,
            manifest_dir=manifest,
            manifest_digest=harvested["manifest"],
            recipe=load_recipe(ritual.intent["recipe"]),
            output=output,
            resume_from=resume,
            seed=ritual.intent["seed"],
        )
        return JobPlan(job, (base.path, manifest, *([resume] if resume else [])))

    if finished := await jobs.follow(ritual, held.fence, plan):
        await _conclude(station, ritual, held, finished, base.digest, settings)
        await jobs.forget(ritual)


def _earlier_checkpoints(jobs: Jobs, ritual: Ritual) -> Path | None:
    """What the last attempt that got so far saved whole; the same ritual has the same manifest, recipe and seed."""
    for attempt in range(ritual.attempt - 1, 0, -1):
        folder = jobs.artifacts.run(ritual.id, attempt, ROLE) / OUTPUT / CHECKPOINTS_DIR
        if any(folder.glob(f"*/{IDENTITY_FILE}")):
            return folder
    return None


async def _conclude(
    station: Station, ritual: Ritual, held: Lease, finished: Finished, base: str, settings: ForgeSettings
) -> None:
    result, started_at = finished.result, ritual.entered_at
    if result.ok:
        try:
            digest = adapter_digest(finished.output / ADAPTER_DIR)
        except AdapterError as error:
            await _fail(station, ritual, str(error), started_at)
            return
        forged = AdapterForged(
            **ritual.key,
            adapter=digest,
            path=str(finished.output / ADAPTER_DIR),
            base=base,
            recipe=ritual.intent["recipe"],
            fence=held.fence,
            training=result.result,
            spans=result.spans,
            isolation=finished.isolation,
        )
        await station.state(forged, started_at, held.fence)
    else:
        failures = await ledger.failures(station.pool, ritual.id)
        await station.state(unfinished(ritual, result, failures, settings.max_attempts), started_at, held.fence)


async def _fail(station: Station, ritual: Ritual, reason: str, started_at: datetime) -> None:
    failed = AdapterFailed(**ritual.key, reason=reason)
    await station.state(failed, started_at)
