"""The job that the forge plans: the recipe of its ritual with what the intent changes, and the checkpoints to continue from."""

from __future__ import annotations

from pathlib import Path

from nats.aio.client import Client

from services.forge.job import CHECKPOINTS_DIR, IDENTITY_FILE, TrainerJob
from services.forge.reconcile import ROLE, Forge
from shared.config.recipe import load_recipe
from shared.config.settings import Settings
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.intent import RecipeOverrides
from shared.jobs.runner import OUTPUT
from shared.ritual import lease, ledger
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool
from tests.support.orchestrated import named_base
from tests.support.stages import ANVIL, evacuated, harvested, state


async def test_a_ritual_that_was_interrupted_is_trained_with_its_overrides_from_its_checkpoint(
    admin: Pool, settings: Settings, client: Client, tmp_path: Path
) -> None:
    named_base(tmp_path)
    settings = settings.model_copy(update={"models": tmp_path})
    overrides = RecipeOverrides(epochs=3, batch_size=4, learning_rate_multiplier=0.5)
    ritual = await harvested(admin, overrides=overrides, seed=7)
    fence = await evacuated(admin, ritual)
    checkpoints = Artifacts(settings.home).run(ritual, 1, ROLE) / OUTPUT / CHECKPOINTS_DIR
    (checkpoints / "checkpoint-20").mkdir(parents=True)
    (checkpoints / "checkpoint-20" / IDENTITY_FILE).touch()
    await state(admin, GpuInterrupted(ritual=ritual, persona="scribe", reason="the ritual was paused", asked=True))
    await lease.release(admin, ANVIL, fence)
    await evacuated(admin, ritual, attempt=2)
    found, held = await ledger.get_ritual(admin, ritual), await lease.get_live_lease(admin, ritual)
    assert found and held

    plan = await Forge(ServiceContext("forge", settings, admin, client)).plan(found, held)
    job = plan(tmp_path / "output").values

    assert isinstance(job, TrainerJob)
    recipe = load_recipe("default")
    changed = {"epochs": 3.0, "batch_size": 4, "learning_rate": recipe.learning_rate * 0.5}
    assert job.recipe == recipe.model_copy(update=changed)
    assert (job.seed, job.attempt, job.resume_from) == (7, 2, checkpoints)
