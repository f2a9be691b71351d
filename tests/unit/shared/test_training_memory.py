"""The estimate of a training's memory, and what follows from it: fewer rows at once, then less kept, then a refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.config.recipe import Recipe
from shared.storage.training_memory import Batch, DoesNotFit, ModelSize, estimate, fit, longest_row, read_size
from tests.support.sized import HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY, sized_base

BATCH = Batch(rows=8, length=256, trained=64)
MATRICES = LAYERS * HIDDEN * (2 * HIDDEN + HIDDEN // 2 + 3 * INTERMEDIATE)
GIB = 1024**3


@pytest.fixture
def size(tmp_path: Path) -> ModelSize:
    found = read_size(sized_base(tmp_path / "base"))
    assert found
    return found


def total(size: ModelSize, batch: Batch = BATCH, on_gpu: bool = False, **recipe: Any) -> int:
    return sum(estimate(size, Recipe(**recipe), batch, on_gpu=on_gpu).values())


def test_sizes_are_read_from_config_and_headers(size: ModelSize, tmp_path: Path) -> None:
    assert size.parameters == MATRICES + VOCABULARY * HIDDEN
    (tmp_path / "base/config.json").write_text("{}")
    assert read_size(tmp_path / "base") is None


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_more_rows_longer_rows_a_higher_rank_and_more_layers_take_more(
    size: ModelSize, on_gpu: bool, checkpointing: bool
) -> None:
    batch = replace(BATCH, checkpointing=checkpointing)
    least = total(size, batch, on_gpu)
    assert total(size, replace(batch, rows=16), on_gpu) > least
    assert total(size, replace(batch, length=512), on_gpu) > least
    assert total(size, batch, on_gpu, r=32) > least
    assert total(size, batch, on_gpu, target_modules=("q_proj",)) < least


def test_full_precision_takes_more_on_a_gpu(size: ModelSize) -> None:
    assert total(size, BATCH, True, precision="fp32") > total(size, BATCH, True)


def test_checkpointing_and_four_bit_take_less(size: ModelSize) -> None:
    assert total(size, replace(BATCH, checkpointing=True)) < total(size)
    assert total(size, engine="unsloth", method="qlora") < total(size, engine="unsloth")


def test_what_is_known_exactly_is_estimated_exactly(size: ModelSize) -> None:
    terms = estimate(size, Recipe(r=8, target_modules=("q_proj", "down_proj")), BATCH, on_gpu=False)
    adapter = 4 * 8 * LAYERS * (2 * HIDDEN + HIDDEN + INTERMEDIATE)
    assert terms["weights"] == 2 * size.parameters
    assert (terms["adapter"], terms["gradients"], terms["optimizer"]) == (adapter, adapter, 2 * adapter)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_what_a_loss_passes_besides_is_counted(size: ModelSize, on_gpu: bool) -> None:
    assert total(size, on_gpu=on_gpu, loss="dpo", replay=0) == total(size, replace(BATCH, rows=16), on_gpu)
    assert total(size, on_gpu=on_gpu, loss="kto", replay=0) == total(size, on_gpu=on_gpu)
    short, long = (total(size, on_gpu=on_gpu, loss="sdft", replay=0, answer_tokens=tokens) for tokens in (64, 128))
    assert short < long


def test_kto_keeps_two_rows_and_computes_again_instead(size: ModelSize) -> None:
    recipe = Recipe(loss="kto", replay=0)
    two = sum(estimate(size, recipe, replace(BATCH, rows=2), on_gpu=False).values())
    batch, _ = fit(size, recipe, BATCH, two, on_gpu=False)
    assert (batch.rows, batch.checkpointing) == (2, False)
    batch, _ = fit(size, recipe, BATCH, two - 1, on_gpu=False)
    assert batch.rows >= 2 and batch.checkpointing


@pytest.mark.parametrize("rows", [8, 4, 2, 1])
def test_fewer_rows_at_once_come_first(size: ModelSize, rows: int) -> None:
    room = total(size, replace(BATCH, rows=rows))
    batch, terms = fit(size, Recipe(), BATCH, room, on_gpu=False)
    assert batch == replace(BATCH, rows=rows)
    assert sum(terms.values()) == room


def test_less_is_kept_where_one_row_is_too_much(size: ModelSize) -> None:
    one = replace(BATCH, rows=1, length=4096)
    batch, _ = fit(size, Recipe(), replace(one, rows=8), total(size, one) - 1, on_gpu=False)
    assert batch.checkpointing


def test_what_fits_in_no_way_is_refused_with_its_largest_part_and_what_to_change(size: ModelSize) -> None:
    one = Batch(rows=1, length=4096, trained=64, checkpointing=True)
    with pytest.raises(
        DoesNotFit, match=r"one row of 4096 tokens .* may take 0\.1 GiB; .* lower max_length"
    ) as refused:
        fit(size, Recipe(), replace(one, rows=8, checkpointing=False), 0.1 * GIB, on_gpu=False)
    assert str(refused.value).count(".") < 8 and "\n" not in str(refused.value)
    fit(size, Recipe(), one, total(size, one), on_gpu=False)


def test_a_base_that_is_too_large_is_advised_four_bit(size: ModelSize) -> None:
    with pytest.raises(DoesNotFit, match=r"the largest part are the weights .* method .qlora"):
        fit(replace(size, parameters=10**11), Recipe(), Batch(1, 64, 64), 80 * GIB, on_gpu=True)


@pytest.mark.parametrize(("max_length", "length"), [("auto", 4096), ("p99", 900), (700, 700), (20000, 4096)], ids=str)
def test_the_longest_row_follows_from_the_recipe_and_the_context(size: ModelSize, max_length: Any, length: int) -> None:
    assert longest_row(Recipe(max_length=max_length), size, (9000, 900)) == length
