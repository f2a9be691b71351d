"""The forge's stage: plan the trainer job, and record the adapter that it made."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import structlog
from pydantic import BaseModel

from services.forge.auto_recipe import Task, pick
from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE, MEMORY_FILE, TrainerJob, kept_name
from services.forge.replay.answers import answers_key, read_answers, to_lines
from shared.config.engines import list_engines
from shared.config.recipe import AUTO, with_overrides
from shared.config.tables import TrainingTable
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    LARGEST_ADAPTER,
    AdapterFailed,
    AdapterForged,
    MemoryFigures,
    TrainingFigures,
)
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.job import RESULT_FILE
from shared.jobs.runner import JOB_FILE, OUTPUT, Finished, JobPlan
from shared.ritual import ledger
from shared.storage import digests
from shared.storage.artifacts import Artifacts, write_atomically
from shared.storage.base_model import Bases
from shared.storage.base_shape import read_shape
from shared.storage.digests import digest_files
from shared.storage.untrusted import KIB, OutputError, digest_file, list_names, read_model, validate

if TYPE_CHECKING:
    from pathlib import Path

    from shared.config.recipe import Recipe
    from shared.contracts.message import Fact
    from shared.jobs.gpu_stage import Planner
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext
    from shared.storage.base_model import Base

log = structlog.get_logger()
ROLE = "trainer"
LARGEST_CONFIG = 256 * KIB
SHOWN = 10  # names of files in an error


class PeftConfig(BaseModel):
    """The part of an adapter's configuration that makes it a LoRA."""

    peft_type: Literal["LORA"]


class Forge:
    """Plans trainer jobs and reads back their adapters."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._artifacts = Artifacts(context.settings.home)
        self._bases = Bases(context.settings, context.configuration)
        anvil, limits = (
            context.configuration.anvils[context.configuration.forge],
            context.configuration.section(TrainingTable),
        )
        self._memory = limits.memory if anvil.accelerator == "cpu" else None

    async def plan(self, ritual: Ritual, held: Lease) -> Planner:
        harvested = await ledger.require_fact(self._context.pool, ritual.id, KarmaHarvested)
        manifest = self._artifacts.manifest(harvested.manifest)
        base = await self._bases.get(self._context.configuration.base_of(ritual.persona))
        recipe, reason = await self._recipe(ritual, harvested, base)
        # An end for want of memory is a fact: the next attempt has half as many rows at once, and after one row keeps less.
        without_memory = await ledger.get_rows_without_memory(self._context.pool, ritual.id)
        changed, jobs = with_overrides(recipe, ritual.intent.overrides), self._context.configuration.jobs
        workers = jobs.forge.workers

        def planned(output: Path) -> JobPlan:
            resume = self._earlier_checkpoints(ritual)
            engine, *others = list_engines(changed, jobs)
            environment = jobs.training(engine)
            # One container has one image.
            reached = {
                other: found for other in others if (found := jobs.environment(other)).image == environment.image
            }
            kept = self._artifacts.pilots() if reached else None
            replay = self._fixed_answers(ritual, base) if changed.replay else None
            job = TrainerJob(
                ritual=str(ritual.id),
                attempt=ritual.attempt,
                fence=held.fence,
                base=base,
                manifest_dir=manifest,
                manifest_digest=harvested.manifest,
                recipe=with_fewer_rows(changed.shared_by(workers) if workers > 1 else changed, without_memory),
                checkpointing=without_memory == recipe.least_rows,
                memory=self._memory and self._memory // workers,
                recipe_reason=reason,
                replay=replay,
                replay_digest=digests.digest_file(replay) if replay else None,
                output=output,
                resume_from=resume,
                engine=engine,
                executor=jobs.forge.executor,
                workers=workers,
                others={other: found.python for other, found in reached.items()},
                kept=kept,
                seed=ritual.intent.seed,
            )
            inputs = (base.path, manifest, *filter(None, (resume, kept, replay)))
            return JobPlan(job, (*inputs, *(path for other in reached.values() for path in other.mounted)), environment)

        return planned

    async def conclude(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        try:
            digest = await asyncio.to_thread(adapter_digest, finished.output)
        except OutputError as error:
            # No further attempt: the same manifest and recipe would make the same adapter.
            return AdapterFailed(**ritual.key, reason=str(error), isolation=finished.isolation)
        training = validate(finished.result.result, TrainingFigures, RESULT_FILE)
        job = TrainerJob.model_validate_json((finished.output.parent / JOB_FILE).read_bytes())
        # One without a figure may have run out of time: it is measured again in the next run.
        if (pilots := training.choice.pilots) and all(pilot.tokens_per_s for pilot in pilots):
            kept = self._artifacts.pilots() / kept_name(training.choice.key)
            write_atomically(kept, training.choice.model_dump_json())
        return AdapterForged(
            **ritual.key,
            adapter=digest,
            path=str(finished.output / ADAPTER_DIR),
            base=job.base.digest,
            recipe=ritual.intent.recipe_text,
            fence=held.fence,
            training=training,
            spans=finished.result.spans,
            isolation=finished.isolation,
        )

    def out_of_memory(self, ritual: Ritual, finished: Finished) -> Fact:
        """The next attempt has half the rows at once; after one row, with as little kept as possible, there is none."""
        job = TrainerJob.model_validate_json((finished.output.parent / JOB_FILE).read_bytes())
        rows, checkpointing = job.recipe.rows_at_once, job.checkpointing
        with suppress(OutputError):  # it may have ended before its first step
            planned = read_model(finished.output, MEMORY_FILE, MemoryFigures, LARGEST_CONFIG)
            # No more than what it was given, whatever it writes: each attempt has less than the one before.
            rows, checkpointing = min(rows, planned.rows), checkpointing or planned.checkpointing
        reason = f"it ran out of memory with {rows} rows at once: {finished.result.error}"
        if rows > job.recipe.least_rows or not checkpointing:
            return GpuInterrupted(**ritual.key, reason=reason, rows_at_once=rows, isolation=finished.isolation)
        reason = f"lower max_length in the recipe, take a smaller base, or raise training.memory: {reason}"
        return AdapterFailed(**ritual.key, reason=reason, isolation=finished.isolation)

    def request_after(self, ritual: Ritual, fact: Fact) -> None:
        """No ritual follows from a training."""

    def _fixed_answers(self, ritual: Ritual, base: Base) -> Path:
        """The base's answers as they were known to the ritual's first attempt: with others no checkpoint could be resumed from."""
        path = self._artifacts.replay_input(ritual.id)
        if not path.exists():
            try:
                known = read_answers(self._artifacts.replay_answers(answers_key(base.digest)))
            except OutputError as error:
                log.warning("the base's answers are not used", ritual=str(ritual.id), error=str(error))
                known = {}
            write_atomically(path, to_lines(known[place] for place in sorted(known)))
        return path

    async def _recipe(self, ritual: Ritual, harvested: KarmaHarvested, base: Base) -> tuple[Recipe, str]:
        """The recipe of a ritual, and why it has its values where they are picked."""
        configuration = self._context.configuration
        recipe = configuration.recipe(ritual.intent.recipe, ritual.persona)
        if ritual.intent.recipe != AUTO:
            return recipe, ""
        shape = await asyncio.to_thread(read_shape, base.path)
        return pick(
            recipe,
            Task(harvested.train, harvested.tokens, shape.parameters),
            configuration.max_lora_rank(ritual.persona),
        )

    def _earlier_checkpoints(self, ritual: Ritual) -> Path | None:
        """The complete checkpoints of the latest attempt with any; a ritual's manifest, recipe and seed do not change."""
        for attempt in range(ritual.attempt - 1, 0, -1):
            folder = self._artifacts.run(ritual.id, attempt, ROLE) / OUTPUT / CHECKPOINTS_DIR
            # A link could lead anywhere: what is mounted for the next attempt is the folder itself.
            if not folder.is_symlink() and any(folder.glob(f"checkpoint-*/{IDENTITY_FILE}")):
                return folder
        return None


def with_fewer_rows(recipe: Recipe, without_memory: int | None) -> Recipe:
    """The recipe with at most half the rows at once that memory did not suffice for. A step is the same, in more parts."""
    if without_memory is None:
        return recipe
    return recipe.model_copy(
        update={"micro_batch": min(recipe.micro_batch, max(recipe.least_rows, without_memory // 2))}
    )


def adapter_digest(output: Path) -> str:
    """The `digest_tree` of a job's adapter. Raises OutputError unless it is exactly one LoRA, as PEFT writes it."""
    found = list_names(output, ADAPTER_DIR, SHOWN)
    if found != ADAPTER_FILES:
        names = (", ".join(sorted(names)) for names in (ADAPTER_FILES, found))
        raise OutputError("{} must hold exactly {}, found {}".format(ADAPTER_DIR, *names))
    read_model(output, f"{ADAPTER_DIR}/{ADAPTER_CONFIG}", PeftConfig, LARGEST_CONFIG)
    return digest_files({name: digest_file(output, f"{ADAPTER_DIR}/{name}", LARGEST_ADAPTER) for name in ADAPTER_FILES})
