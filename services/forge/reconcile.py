"""The forge's stage: what its trainer job gets, and the fact about the adapter that the job left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.forge.adapter import AdapterError, adapter_digest
from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE, TrainerJob
from services.forge.settings import ForgeSettings
from shared.config.recipe import load_recipe
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.ritual import State
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import OUTPUT, Finished, JobKind, JobPlan
from shared.ritual import ledger
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import find_base

if TYPE_CHECKING:
    from pathlib import Path

    from shared.contracts.message import Fact
    from shared.jobs.gpu_stage import Planner
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.service import ServiceContext

ROLE = "trainer"


def stage(trainer: str, settings: ForgeSettings) -> GpuStage:
    """The stage whose job runs the module `trainer`."""
    kind = JobKind(ROLE, ("-m", trainer), settings.memory_bytes, settings.time_limit_s)
    return GpuStage(State.EVACUATED, kind, settings.max_attempts, plan, conclude)


async def plan(context: ServiceContext, ritual: Ritual, held: Lease) -> Planner:
    harvested = await ledger.fact_body(context.pool, ritual.id, "karma.harvested")
    if harvested is None:
        raise RuntimeError(f"ritual {ritual.id} holds the anvil without a manifest")
    artifacts = Artifacts(context.settings.home)
    manifest = artifacts.manifest(harvested["manifest"])
    base = find_base(context.settings)

    def planned(output: Path) -> JobPlan:
        resume = _earlier_checkpoints(artifacts, ritual)
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

    return planned


def _earlier_checkpoints(artifacts: Artifacts, ritual: Ritual) -> Path | None:
    """What the last attempt that got so far saved whole; the same ritual has the same manifest, recipe and seed."""
    for attempt in range(ritual.attempt - 1, 0, -1):
        folder = artifacts.run(ritual.id, attempt, ROLE) / OUTPUT / CHECKPOINTS_DIR
        if any(folder.glob(f"*/{IDENTITY_FILE}")):
            return folder
    return None


async def conclude(context: ServiceContext, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
    adapter = finished.output / ADAPTER_DIR
    try:
        digest = adapter_digest(adapter)
    except AdapterError as error:
        return AdapterFailed(**ritual.key, reason=str(error))
    return AdapterForged(
        **ritual.key,
        adapter=digest,
        path=str(adapter),
        base=find_base(context.settings).digest,
        recipe=ritual.intent["recipe"],
        fence=held.fence,
        training=finished.result.result,
        spans=finished.result.spans,
        isolation=finished.isolation,
    )
