"""One behaviour for every training engine and method: stops with a checkpoint, goes on from it, learns, saves one LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest

from services.forge.job import ADAPTER_DIR
from services.forge.reconcile import adapter_digest
from shared.contracts.forge import ADAPTER_CONFIG, EngineName, TrainingFigures
from shared.contracts.job import EXIT_FAILED, EXIT_INTERRUPTED
from shared.storage.base_model import Base
from tests.support.model import MODEL, needs_jobs, require_unsloth
from tests.support.tiny import tiny_base
from tests.support.training import (
    RECIPE,
    ROWS,
    TRAINED,
    Training,
    finish,
    planned,
    progress,
    row,
    start,
    write_manifest,
)

pytestmark = needs_jobs

EVERY = pytest.mark.parametrize(("engine", "method"), TRAINED)
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@EVERY
def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_and_the_next_attempt_goes_on_from_it(
    trained: Training, engine: EngineName, method: str
) -> None:
    first, (status, result), job, (next_status, next_result) = trained(engine, method)
    assert (status, result.ok, result.interrupted, result.permanent) == (EXIT_INTERRUPTED, False, True, False)
    assert not (first.output / ADAPTER_DIR).exists()
    assert (next_status, next_result.ok, next_result.error) == (0, True, None)
    figures = TrainingFigures.model_validate(next_result.result)
    assert 0 < figures.resumed_at < 2 * ROWS
    told = [line.done for line in progress(job) if line.phase == "train"]
    assert told == list(range(figures.resumed_at + 1, 2 * ROWS + 1))
    assert figures.choice is not None and figures.choice.engine == engine


@EVERY
def test_the_adapter_is_one_lora_as_peft_writes_it(trained: Training, engine: EngineName, method: str) -> None:
    job = trained(engine, method).job
    assert adapter_digest(job.output).startswith("sha256:")
    config = json.loads((job.output / ADAPTER_DIR / ADAPTER_CONFIG).read_text())
    assert config["base_model_name_or_path"] == "stable-name"
    assert (config["r"], config["lora_alpha"], config["lora_dropout"], config["bias"]) == (8, 32, 0.1, "none")
    assert set(config["target_modules"]) == LINEAR
    assert not (config["use_dora"] or config["use_rslora"] or config["modules_to_save"])


@EVERY
def test_the_same_rows_have_less_loss_the_second_time(trained: Training, engine: EngineName, method: str) -> None:
    first, _, job, _ = trained(engine, method)
    lines = [line for run in (first, job) for line in progress(run) if line.phase == "train"]
    losses = {line.done: line.loss for line in lines if line.loss is not None}
    earlier, later = ([loss for step, loss in losses.items() if (step > ROWS) is half] for half in (False, True))
    print(engine, method, f"mean loss {mean(earlier):.3f}, then {mean(later):.3f}")
    assert len(earlier) == len(later) == ROWS
    assert mean(later) < mean(earlier) - 0.5


@pytest.mark.parametrize("engine", ["trl", "unsloth"])
def test_the_dev_loss_is_a_mean_of_trained_tokens_however_rows_are_batched(tmp_path: Path, engine: EngineName) -> None:
    if engine == "unsloth":
        require_unsloth()
    base = Base(name="tiny", path=tiny_base(tmp_path / "tiny", MODEL), digest="sha256:tiny")
    long = [*row(8)["messages"][:2], {"role": "assistant", "content": "Plainly, I would call it nine. " * 9}]
    digest = write_manifest(tmp_path / "dev", [row(1), row(2)], [row(7), row(8, messages=long), row(9)])
    found = []
    for rows in (1, 2):
        recipe = RECIPE.model_copy(update={"engine": engine, "micro_batch": rows, "replay": 0, "epochs": 1})
        job = planned(tmp_path / "dev", digest, tmp_path / f"by-{rows}", base=base, engine=engine, recipe=recipe)
        status, result = finish(job, start(job))
        assert (status, result.error, result.result["dev_examples"]) == (0, None, 3)
        found.append(result.result["dev_loss_before"])
        evaluated = [line for line in progress(job) if line.phase == "evaluate"]
        assert {(line.total, line.unit) for line in evaluated} == {(3 if rows == 1 else 2, "batches")}
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_base_that_is_silently_not_loaded_in_4_bit_is_no_qlora(tmp_path: Path) -> None:
    require_unsloth()
    digest = write_manifest(tmp_path / "manifest", [row(number) for number in range(ROWS)], [])
    recipe = RECIPE.model_copy(update={"engine": "unsloth", "method": "qlora", "replay": 0})
    job = planned(tmp_path / "manifest", digest, tmp_path / "run", engine="unsloth", recipe=recipe)
    status, result = finish(job, start(job, UNSLOTH_CPU_LOAD_IN_4BIT="0"))
    assert (status, result.permanent) == (EXIT_FAILED, True)
    assert "0 of 210 adapted layers are in 4 bit, with method qlora" in (result.error or "")
