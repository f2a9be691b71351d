"""Each loss other than SFT as its service runs it: DPO on the real base, the others on one of random weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.forge.job import CHECKPOINTS_DIR, TrainerJob
from services.forge.reconcile import adapter_digest
from shared.config.recipe import LossName, Recipe
from shared.contracts.forge import TrainingFigures
from shared.contracts.job import EXIT_FAILED, EXIT_INTERRUPTED
from shared.storage.base_model import Base
from tests.support.model import MODEL, needs_jobs
from tests.support.tiny import tiny_base
from tests.support.training import finish, pair_row, planned, progress, row, start, wait_for_step, write_manifest

pytestmark = needs_jobs

PAIRS, HELD_OUT = 8, 3
# Of a pass over the pairs four steps of DPO, eight of KTO; of the rows four of SDFT.
EPOCHS = {"sdft": 5}
SHORT: dict[str, Any] = {"r": 8, "batch_size": 2, "replay": 0, "learning_rate": 1e-3, "checkpoint_steps": 4}
STEPS = {"dpo": 8, "kto": 16, "sdft": 20}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("manifest")
    rows = [row(number, why="It is short.") for number in range(8)]
    pairs, held_out = ([pair_row(number) for number in range(*span)] for span in ((1, PAIRS + 1), (40, 40 + HELD_OUT)))
    dev = [row(77, why="It is plain.")]
    return folder, write_manifest(folder, rows, dev, pairs=pairs, dev_pairs=held_out)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(name="tiny", path=tiny_base(tmp_path_factory.mktemp("tiny") / "tiny", MODEL), digest="sha256:tiny")


def recipe(loss: LossName, **changes: Any) -> Recipe:
    own = {"sdft": {"answer_tokens": 6}}.get(loss, {})
    return Recipe.model_validate({**SHORT, "loss": loss, **own, **changes})


def trained(job: TrainerJob) -> TrainingFigures:
    status, result = finish(job, start(job))
    assert (status, result.error) == (0, None)
    return TrainingFigures.model_validate(result.result)


def test_dpo_makes_the_corrected_answers_likelier_than_those_that_they_correct(
    manifest: tuple[Path, str], tmp_path: Path
) -> None:
    job = planned(*manifest, tmp_path / "run", recipe=recipe("dpo", learning_rate=5e-4, checkpoint_steps=8))
    figures = trained(job)
    found = figures.preference
    print(found)
    assert found is not None and found.pairs == HELD_OUT
    assert found.margin_after > found.margin_before + 1
    assert found.chosen_nll_after < found.chosen_nll_before
    assert figures.dev_loss_before is not None and figures.dev_loss_after is not None
    assert figures.dev_loss_after < figures.dev_loss_before
    audits = figures.mask_audit
    assert (audits.train.rows, audits.train.examples, audits.dev.examples) == (PAIRS, 2 * PAIRS, 2 * HELD_OUT)
    assert adapter_digest(job.output).startswith("sha256:")


@pytest.mark.parametrize(
    "loss", [pytest.param("dpo", marks=pytest.mark.extended), pytest.param("kto", marks=pytest.mark.extended), "sdft"]
)
def test_a_run_that_is_stopped_goes_on_exactly(
    manifest: tuple[Path, str], tiny: Base, tmp_path: Path, loss: LossName
) -> None:
    plan = partial(
        planned, *manifest, base=tiny, recipe=recipe(loss, epochs=EPOCHS.get(loss, 2), patience=0, dropout=0.1)
    )
    whole = trained(plan(tmp_path / "whole"))
    assert (whole.steps, whole.loss, whole.dev_loss_before is not None) == (STEPS[loss], loss, True)

    first = plan(tmp_path / "first")
    process = start(first)
    wait_for_step(first, 3)
    process.terminate()
    status, result = finish(first, process)
    assert (status, result.interrupted) == (EXIT_INTERRUPTED, True)

    second = plan(tmp_path / "second", attempt=2, resume_from=first.output / CHECKPOINTS_DIR)
    resumed = trained(second)
    told = [line.done for line in progress(second) if line.phase == "train"]
    assert 3 <= resumed.resumed_at < STEPS[loss]
    assert told == list(range(resumed.resumed_at + 1, STEPS[loss] + 1))
    for figure in ("adapter", "checkpoints", "taken", "seen_tokens", "dev_loss_before", "dev_loss_after", "preference"):
        assert getattr(resumed, figure) == getattr(whole, figure), figure


def test_kto_takes_both_answers_of_every_pair_alone(manifest: tuple[Path, str], tiny: Base, tmp_path: Path) -> None:
    job = planned(*manifest, tmp_path / "run", base=tiny, recipe=recipe("kto", epochs=1))
    figures = trained(job)
    # The estimate of the KL divergence is 0 before the first step: half of either kind is lost.
    before, after = figures.dev_loss_before, figures.dev_loss_after
    assert before is not None and after is not None
    assert before == pytest.approx(0.5, abs=0.01) and after < before
    assert (figures.steps, figures.mask_audit.train.examples) == (8, 2 * PAIRS)
    assert figures.preference is not None and figures.preference.margin_after > figures.preference.margin_before
    assert all(line.tokens and line.loss is not None for line in progress(job) if line.phase == "train")


def test_a_manifest_without_pairs_is_refused_before_the_base_is_loaded(tmp_path: Path) -> None:
    digest = write_manifest(tmp_path / "manifest", [row(1), row(2)], [])
    job = planned(tmp_path / "manifest", digest, tmp_path / "run", recipe=recipe("dpo"))
    status, result = finish(job, start(job))
    assert (status, result.permanent, result.spans) == (EXIT_FAILED, True, ())
    assert 'nothing that loss "dpo" could train' in (result.error or "")
