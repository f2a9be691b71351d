"""What no engine of this machine can train is refused in one sentence, before the anvil is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.engines import list_engines
from shared.config.errors import ConfigurationError
from shared.config.recipe import Recipe
from shared.config.tables import JobsConfig, UnslothConfig


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
