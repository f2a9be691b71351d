"""What no engine of this machine can train is refused in one sentence, before the anvil is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.config.engines import list_engines
from shared.config.errors import ConfigurationError
from shared.config.recipe import Recipe
from shared.config.tables import JobsConfig, TrainingJobsConfig, UnslothConfig


def jobs(folder: Path, *, installed: bool) -> JobsConfig:
    python = folder / "venv/bin/python"
    if installed:
        python.parent.mkdir(parents=True)
        python.touch()
    return JobsConfig(unsloth=UnslothConfig(python=python))


@pytest.mark.parametrize(
    ("engine", "method", "installed", "engines"),
    [
        ("trl", "lora", True, ("trl",)),
        ("auto", "lora", False, ("trl",)),
        ("auto", "lora", True, ("trl", "unsloth")),
        ("auto", "qlora", True, ("unsloth",)),
        ("unsloth", "lora", True, ("unsloth",)),
        ("unsloth", "qlora", True, ("unsloth",)),
    ],
)
def test_a_recipe_runs_on_what_is_installed_and_can_train_it(
    engine: str, method: str, installed: bool, engines: tuple[str, ...], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"engine": engine, "method": method})
    assert list_engines(recipe, jobs(tmp_path, installed=installed)) == engines


@pytest.mark.parametrize(
    ("engine", "method", "told"),
    [
        ("trl", "qlora", 'engine "trl" does not train method "qlora": take engine "unsloth"'),
        ("auto", "qlora", "needs unsloth, which is not installed"),
        ("unsloth", "lora", "run `make setup-unsloth`"),
    ],
)
def test_a_recipe_that_nothing_here_trains_is_refused_with_what_to_do(
    engine: str, method: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        list_engines(Recipe.model_validate({"engine": engine, "method": method}), jobs(tmp_path, installed=False))
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_an_image_holds_is_not_looked_for_on_this_machine() -> None:
    in_image = JobsConfig(driver="docker", image="jobs", unsloth=UnslothConfig(image="unsloth", image_python="/bin/py"))
    assert list_engines(Recipe(engine="unsloth"), in_image) == ("unsloth",)
    assert (in_image.environment("unsloth").image, in_image.environment().image) == ("unsloth", "jobs")
    assert in_image.environment("unsloth").mounted == ()


@pytest.mark.parametrize("loss", ["dpo", "kto", "sdft"])
def test_another_loss_than_sft_is_trained_by_trl_alone(loss: str, tmp_path: Path) -> None:
    values, here = {"loss": loss, "replay": 0}, jobs(tmp_path, installed=True)
    assert list_engines(Recipe.model_validate(values), here) == ("trl",)
    for told in ({"engine": "unsloth"}, {"method": "qlora"}):
        with pytest.raises(
            ConfigurationError, match=f'engine "unsloth" does not train loss "{loss}": take engine "trl"'
        ):
            list_engines(Recipe.model_validate(values | told), here)


def on_ray(folder: Path, *, installed: bool, workers: int = 2) -> JobsConfig:
    python = folder / ".venv-ray/bin/python"
    if installed:
        python.parent.mkdir(parents=True)
        python.touch()
    return JobsConfig(forge=TrainingJobsConfig(executor="ray", workers=workers, python=python))


def test_workers_train_with_trl_in_an_environment_on_top_of_that_of_the_jobs(tmp_path: Path) -> None:
    found = on_ray(tmp_path, installed=True)
    assert list_engines(Recipe(batch_size=8), found) == ("trl",)
    assert found.training("trl").python == str(found.forge.python)
    assert {tmp_path / ".venv-ray", *found.environment().mounted} <= set(found.training("trl").mounted)
    assert found.environment().python == str(found.python), "the evaluator's is the same as ever"


@pytest.mark.parametrize(
    ("values", "installed", "told"),
    [
        ({"engine": "unsloth"}, True, 'executor "ray" runs engine "trl" with loss "sft"'),
        ({"loss": "dpo", "replay": 0}, True, 'executor "ray" runs engine "trl" with loss "sft"'),
        ({"joules": 60}, True, "without a budget of joules"),
        ({}, False, "run `make setup-ray`"),
        ({"batch_size": 6}, True, "a step of 6 rows has no equal shares for 4 workers"),
    ],
)
def test_what_workers_cannot_train_is_refused(
    values: dict[str, object], installed: bool, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        list_engines(Recipe.model_validate(values), on_ray(tmp_path, installed=installed, workers=4))
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("batch", "micro", "workers", "at_once", "passes"),
    [(8, 256, 2, 4, 2), (8, 2, 2, 2, 4), (12, 4, 2, 3, 4), (8, 256, 1, 8, 1)],
)
def test_a_step_is_shared_equally(batch: int, micro: int, workers: int, at_once: int, passes: int) -> None:
    shared = Recipe(batch_size=batch, micro_batch=micro).shared_by(workers)
    assert (shared.rows_at_once, shared.accumulation) == (at_once, passes)
    assert shared.rows_at_once * (shared.accumulation // workers) * workers == batch


def test_more_than_one_worker_needs_an_executor_that_has_some() -> None:
    with pytest.raises(ValidationError, match='more than one worker needs executor = "ray"'):
        TrainingJobsConfig(workers=2)
