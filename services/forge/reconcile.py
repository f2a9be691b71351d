"""The forge's stage: plan the trainer job, and record the adapter that it made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE, TrainerJob
from shared.config.recipe import load_recipe
from shared.contracts.forge import AdapterFailed, AdapterForged, TrainingFigures
from shared.contracts.harvest import KarmaHarvested
from shared.jobs.runner import JOB_FILE, OUTPUT, Finished, JobPlan
from shared.ritual import ledger
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import Bases
from shared.storage.digests import digest_tree

if TYPE_CHECKING:
    from pathlib import Path

    from shared.contracts.message import Fact
    from shared.jobs.gpu_stage import Planner
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

ROLE = "trainer"
ADAPTER_FILES = frozenset(
    {"adapter_config.json", "adapter_model.safetensors"}
)  # safetensors only: nothing is unpickled


class Forge:
    """Plans trainer jobs and reads back their adapters."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._artifacts = Artifacts(context.settings.home)
        self._bases = Bases(context.settings, context.configuration)

    async def plan(self, ritual: Ritual, held: Lease) -> Planner:
        harvested = await ledger.require_fact(self._context.pool, ritual.id, KarmaHarvested)
        manifest = self._artifacts.manifest(harvested.manifest)
        base = await self._bases.get(self._context.configuration.base_of(ritual.persona))
        max_rank = self._context.configuration.max_lora_rank(ritual.persona)

        def planned(output: Path) -> JobPlan:
            resume = self._earlier_checkpoints(ritual)
            job = TrainerJob(
                ritual=str(ritual.id),
                attempt=ritual.attempt,
                fence=held.fence,
                base=base,
                manifest_dir=manifest,
                manifest_digest=harvested.manifest,
                recipe=load_recipe(ritual.intent.recipe, max_rank),
                output=output,
                resume_from=resume,
                seed=ritual.intent.seed,
            )
            return JobPlan(job, (base.path, manifest, *([resume] if resume else [])))

        return planned

    async def conclude(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        adapter = finished.output / ADAPTER_DIR
        try:
            digest = adapter_digest(adapter)
        except AdapterError as error:
            return AdapterFailed(**ritual.key, reason=str(error))
        job = TrainerJob.model_validate_json((finished.output.parent / JOB_FILE).read_bytes())
        return AdapterForged(
            **ritual.key,
            adapter=digest,
            path=str(adapter),
            base=job.base.digest,
            recipe=ritual.intent.recipe,
            fence=held.fence,
            training=TrainingFigures.model_validate(finished.result.result),
            spans=finished.result.spans,
            isolation=finished.isolation,
        )

    def _earlier_checkpoints(self, ritual: Ritual) -> Path | None:
        """The complete checkpoints of the latest attempt with any; a ritual's manifest, recipe and seed do not change."""
        for attempt in range(ritual.attempt - 1, 0, -1):
            folder = self._artifacts.run(ritual.id, attempt, ROLE) / OUTPUT / CHECKPOINTS_DIR
            if any(folder.glob(f"*/{IDENTITY_FILE}")):
                return folder
        return None


class AdapterError(Exception):
    """The directory is not an adapter; the message is the reason."""


def adapter_digest(path: Path) -> str:
    """The digest of an adapter. Raises AdapterError unless the directory holds exactly one, as PEFT writes it."""
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if found != ADAPTER_FILES or any((path / name).is_symlink() for name in ADAPTER_FILES):
        raise AdapterError(
            f"{path.name} must hold exactly {', '.join(sorted(ADAPTER_FILES))}, found {', '.join(sorted(found)) or 'nothing'}"
        )
    try:
        config = json.loads((path / "adapter_config.json").read_text())
    except ValueError as error:
        raise AdapterError(f"adapter_config.json is not JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"adapter_config.json names {config.get('peft_type')!r}, LORA expected")
    return digest_tree(path)
