"""The job that the forge plans: the recipe of its ritual with what the intent changes, and the checkpoints to continue from."""

from __future__ import annotations

from pathlib import Path

from nats.aio.client import Client

from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE, TrainerJob, kept_name
from services.forge.reconcile import ROLE, Forge
from shared.config.model import embedded
from shared.config.recipe import load_recipe
from shared.config.settings import Settings
from shared.config.tables import JobsConfig, TrainingJobsConfig, UnslothConfig
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import EngineChoice, Pilot
from shared.contracts.intent import RecipeOverrides
from shared.contracts.job import JobResult
from shared.jobs.runner import JOB_FILE, OUTPUT, Finished
from shared.ritual import lease, ledger
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool
from tests.support.adapters import save_adapter
from tests.support.facts import TRAINING
from tests.support.orchestrated import named_base
from tests.support.stages import ANVIL, evacuated, harvested, state


async def test_a_ritual_that_was_interrupted_is_trained_with_its_overrides_from_its_checkpoint(
    admin: Pool, settings: Settings, client: Client, tmp_path: Path
) -> None:
    named_base(tmp_path)
    settings = settings.model_copy(update={"models": tmp_path})
    overrides = RecipeOverrides(epochs=3, batch_size=4, learning_rate_multiplier=0.5, replay=0.3)
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
    changed = {"epochs": 3.0, "batch_size": 4, "learning_rate": recipe.learning_rate * 0.5, "replay": 0.3}
    assert job.recipe == recipe.model_copy(update=changed)
    assert (job.seed, job.attempt, job.resume_from) == (7, 2, checkpoints)


async def test_a_job_reaches_both_engines_and_what_it_measured_of_them_is_kept_for_the_next_one(
    admin: Pool, settings: Settings, client: Client, tmp_path: Path
) -> None:
    named_base(tmp_path)
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    configuration = embedded().model_copy(update={"jobs": JobsConfig(unsloth=UnslothConfig(python=python))})
    settings = settings.model_copy(update={"models": tmp_path})
    ritual = await harvested(admin)
    await evacuated(admin, ritual)
    found, held = await ledger.get_ritual(admin, ritual), await lease.get_live_lease(admin, ritual)
    assert found and held
    forge = Forge(ServiceContext("forge", settings, admin, client, configuration))
    output = Artifacts(settings.home).run(ritual, 1, ROLE) / OUTPUT
    output.mkdir(parents=True, exist_ok=True)

    planned = (await forge.plan(found, held))(output)

    job, kept = planned.values, Artifacts(settings.home).pilots()
    assert isinstance(job, TrainerJob)
    assert (job.engine, job.others, job.kept) == ("trl", {"unsloth": str(python)}, kept)
    assert {python.parents[1], kept} <= set(planned.inputs)
    assert planned.environment and planned.environment.python.endswith(".venv-jobs/bin/python")

    save_adapter(output / ADAPTER_DIR, 0.1)
    (output.parent / JOB_FILE).write_text(job.model_dump_json())
    pilot = Pilot(engine="unsloth", tokens_per_s=300, seconds=20)
    without = Pilot(engine="trl", seconds=20, fault="no figure within 20 s")
    for pilots, is_kept in (((pilot, without), False), ((pilot,), True)):
        choice = EngineChoice(engine="unsloth", why="the fastest", key="device; base", pilots=pilots)
        figures = TRAINING.model_copy(update={"choice": choice}).model_dump(mode="json")
        await forge.conclude(found, held, Finished(JobResult(ok=True, result=figures), output, ()))
        assert (kept / kept_name(choice.key)).is_file() is is_kept


async def test_workers_have_their_environment_a_share_of_a_step_and_an_equal_part_of_the_memory(
    admin: Pool, settings: Settings, client: Client, tmp_path: Path
) -> None:
    named_base(tmp_path)
    python = tmp_path / ".venv-ray/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    on_ray = JobsConfig(forge=TrainingJobsConfig(executor="ray", workers=2, python=python))
    settings = settings.model_copy(update={"models": tmp_path})
    ritual = await harvested(admin, overrides=RecipeOverrides(replay=0))
    await evacuated(admin, ritual)
    found, held = await ledger.get_ritual(admin, ritual), await lease.get_live_lease(admin, ritual)
    assert found and held
    planned = []
    for jobs in (JobsConfig(), on_ray):
        context = ServiceContext("forge", settings, admin, client, embedded().model_copy(update={"jobs": jobs}))
        planned.append((await Forge(context).plan(found, held))(tmp_path / "output"))

    one, two = (plan.values for plan in planned)
    assert isinstance(one, TrainerJob) and isinstance(two, TrainerJob)
    assert (one.executor, one.workers, two.executor, two.workers) == ("local", 1, "ray", 2)
    assert planned[1].environment and planned[1].environment.python == str(python)
    assert one.replay is None, "none of the base's answers are trained"
    assert one.memory and two.memory == one.memory // 2
    assert two.recipe.rows_at_once == one.recipe.batch_size // 2
