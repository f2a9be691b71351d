"""Recipes are refused before the anvil is taken, with a message that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.errors import ConfigurationError
from shared.config.recipe import SHIPPED, load_recipe

SHIPPED_NAMES = sorted(file.stem for file in SHIPPED.glob("*.toml"))


def test_the_default_and_the_positive_control_are_shipped() -> None:
    assert {"default", "overtrained"} <= set(SHIPPED_NAMES)


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).method == "lora"


def test_a_file_of_ones_own_loads(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('r = 8\ntarget_modules = ["q_proj", "v_proj"]\n')
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.r, recipe.target_modules) == (8, ("q_proj", "v_proj"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("r = 12", "r: "),
        ("use_dora = true", "use_dora: "),
        ("modules_to_save = ['lm_head']", "modules_to_save: "),
        ("learning_rate = 0", "learning_rate: "),
        ("replay = 1.5", "replay: "),
        ("r = ", "not TOML"),
        ("r = 64", "at most 16"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=said) as refusal:
        load_recipe(tmp_path / "odd.toml")
    assert "odd.toml" in str(refusal.value)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigurationError, match="default, overtrained"):
        load_recipe("no-such-recipe")


def test_a_larger_rank_is_taken_where_the_engine_takes_it(tmp_path: Path) -> None:
    (tmp_path / "wide.toml").write_text("r = 64")
    assert load_recipe(tmp_path / "wide.toml", max_rank=64).r == 64
