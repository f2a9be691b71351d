"""Recipes are refused before the anvil is taken, with a message that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.forge.auto_recipe import Task, pick
from shared.config.errors import ConfigurationError
from shared.config.recipe import AUTO, SHIPPED, Recipe, load_recipe, with_overrides
from shared.contracts.intent import RecipeOverrides, TrainingIntent

SHIPPED_NAMES = sorted(file.stem for file in SHIPPED.glob("*.toml"))


def test_the_default_and_the_positive_control_are_shipped() -> None:
    assert {"default", "overtrained"} <= set(SHIPPED_NAMES)


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_every_shipped_recipe_loads_and_states_nothing_that_it_does_not_mean(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model_fields_set
    assert recipe.rows_at_once * recipe.accumulation == recipe.batch_size


@pytest.mark.parametrize("name", Recipe.model_fields)
def test_every_field_is_documented(name: str) -> None:
    assert (Recipe.model_fields[name].description or "").endswith((".", "…"))


@pytest.mark.parametrize(
    ("batch", "most", "at_once"), [(8, 256, 8), (8, 4, 4), (8, 5, 4), (12, 5, 4), (7, 3, 1), (1, 256, 1)]
)
def test_a_step_is_split_into_equal_parts_within_the_limit(batch: int, most: int, at_once: int) -> None:
    recipe = Recipe(batch_size=batch, micro_batch=most)
    assert (recipe.rows_at_once, recipe.accumulation * recipe.rows_at_once) == (at_once, batch)


def test_a_budget_of_tokens_ends_the_passes_early_and_never_adds_one() -> None:
    assert Recipe(epochs=3, tokens=1000).passes(500) == 2
    assert Recipe(epochs=3, tokens=1000).passes(2000) == 0.5
    assert Recipe(epochs=3, tokens=1000).passes(100) == 3
    assert Recipe(epochs=3).passes(10**9) == 3


@pytest.mark.parametrize(
    ("task", "max_rank", "picked"),
    [
        (Task(155, 15_000, 135_000_000), 16, {"r": 16, "learning_rate": 8e-4, "epochs": 2, "batch_size": 4}),
        (Task(40, 9_000, 135_000_000), 8, {"r": 8, "alpha": 16, "epochs": 3, "batch_size": 4}),
        (Task(900, 90_000, 1_700_000_000), 16, {"learning_rate": 4e-4, "batch_size": 16, "max_length": "auto"}),
        (Task(20_000, 9_000_000, 8_000_000_000), 64, {"r": 32, "alpha": 64, "learning_rate": 2e-4, "epochs": 1}),
        (Task(20_000, 9_000_000, 8_000_000_000), 16, {"r": 16, "schedule": "cosine", "max_length": "p99"}),
    ],
)
def test_auto_picks_by_rows_tokens_and_size_of_the_base_and_states_why(
    task: Task, max_rank: int, picked: dict[str, object]
) -> None:
    recipe, why = pick(load_recipe(AUTO, max_rank), task, max_rank)
    assert {name: getattr(recipe, name) for name in picked} == picked
    assert why.startswith("auto: ") and f"{task.rows} rows" in why and f"{task.parameters / 1e6:.0f} M" in why


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
        ("loss = 'ppo'", "loss: "),
        ("beta = 0.2", 'beta has no meaning with loss "sft"'),
        ("loss = 'kto'\nreplay = 0\nsft_weight = 0.5", 'sft_weight has no meaning with loss "kto"'),
        ("loss = 'dpo'\nreplay = 0\nanswer_tokens = 9", 'answer_tokens has no meaning with loss "dpo"'),
        ("loss = 'dpo'", "set replay = 0"),
        ("loss = 'kto'\nreplay = 0\nmicro_batch = 1", "micro_batch 2 at least"),
        ("loss = 'kto'\nreplay = 0\nbatch_size = 9", "batch_size must be even"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=said) as refusal:
        load_recipe(tmp_path / "odd.toml")
    assert "odd.toml" in str(refusal.value)


def test_a_name_is_looked_up_in_the_owner_s_folder_first(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("r = 8\nepochs = 7")
    (tmp_path / "gentle.toml").write_text("epochs = 9")

    found = {name: load_recipe(name, own=tmp_path).epochs for name in ("mine", "gentle", "default")}

    assert found == {"mine": 7, "gentle": 9, "default": load_recipe("default").epochs}
    assert load_recipe("gentle").epochs != 9


def test_an_unknown_name_lists_all_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("r = 8")
    for own in (None, tmp_path):
        names = sorted([*SHIPPED_NAMES, *(["mine"] if own else [])])
        with pytest.raises(ConfigurationError, match=f"known recipes are {', '.join(names)}"):
            load_recipe("no-such-recipe", own=own)


def test_a_larger_rank_is_taken_where_the_engine_takes_it(tmp_path: Path) -> None:
    (tmp_path / "wide.toml").write_text("r = 64")
    assert load_recipe(tmp_path / "wide.toml", max_rank=64).r == 64


def test_a_ritual_changes_what_it_names_of_its_recipe_and_nothing_else() -> None:
    recipe = load_recipe("default")

    changed = with_overrides(recipe, RecipeOverrides(epochs=3, learning_rate_multiplier=0.5, replay=0.3))

    changes = {"epochs": 3.0, "learning_rate": recipe.learning_rate * 0.5, "replay": 0.3}
    assert changed == recipe.model_copy(update=changes)
    assert with_overrides(recipe, None) == with_overrides(recipe, RecipeOverrides()) == recipe


@pytest.mark.parametrize(
    "overrides",
    [
        {"epochs": 100, "batch_size": 256, "learning_rate_multiplier": 10},
        {"epochs": 0.01, "batch_size": 1, "learning_rate_multiplier": 0.001},
    ],
)
def test_no_override_leaves_the_bounds_of_a_recipe(overrides: dict[str, float]) -> None:
    changed = with_overrides(load_recipe("default"), RecipeOverrides.model_validate(overrides))

    assert Recipe.model_validate(changed.model_dump()) == changed


@pytest.mark.parametrize(("name", "beta"), [("dpo", 0.3), ("kto", 0.3), ("default", 0.3), ("sdft", 0.3)])
def test_beta_is_changed_where_the_loss_has_one_and_refused_where_not(name: str, beta: float) -> None:
    recipe, overrides = load_recipe(name), RecipeOverrides(beta=beta)
    if recipe.loss in ("dpo", "kto"):
        assert with_overrides(recipe, overrides) == recipe.model_copy(update={"beta": beta})
    else:
        with pytest.raises(ConfigurationError, match=f'overrides: beta has no meaning with loss "{recipe.loss}"'):
            with_overrides(recipe, overrides)


def test_an_override_that_leaves_kto_one_row_at_once_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="batch_size must be even"):
        with_overrides(load_recipe("kto"), RecipeOverrides(batch_size=1))


@pytest.mark.parametrize(
    "overrides",
    [
        {"epochs": 0},
        {"epochs": 101},
        {"batch_size": 257},
        {"learning_rate_multiplier": 0},
        {"beta": 0},
        {"replay": 2},
        {"r": 8},
    ],
    ids=str,
)
def test_an_override_out_of_bounds_or_of_another_value_is_refused(overrides: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(overrides))):
        TrainingIntent.model_validate({"persona": "scribe", "overrides": overrides})


def test_the_recipe_of_an_intent_is_named_with_what_is_changed_of_it() -> None:
    overrides = RecipeOverrides(epochs=3, learning_rate_multiplier=0.5)

    assert TrainingIntent(persona="scribe", overrides=overrides).recipe_text == (
        "default, epochs 3, learning_rate_multiplier 0.5"
    )
    assert TrainingIntent(persona="scribe").recipe_text == "default"
