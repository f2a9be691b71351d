"""The loss curve: what is reported of a run, which checkpoint is taken, and when it ends."""

from __future__ import annotations

import math

import pytest

from services.forge.trainer.curve import MOST_CHECKPOINTS, best_step, checkpoint_figures, divergence, is_over
from shared.contracts.forge import CheckpointFigures


def log(losses: dict[int, float], dev_losses: dict[int, float]) -> list[dict[str, float]]:
    """As transformers logs: one entry for each loss and each evaluation."""
    steps = [{"loss": loss, "learning_rate": 1e-4, "step": step} for step, loss in losses.items()]
    return [*steps, *({"eval_loss": loss, "step": step} for step, loss in dev_losses.items())]


def test_the_checkpoints_are_those_of_the_interval_and_the_last_step() -> None:
    steps = {step: 10.0 - step for step in range(1, 6)}

    assert checkpoint_figures(log(steps, {0: 9.9, 2: 8.5}), 2) == (
        CheckpointFigures(step=2, loss=8.0, dev_loss=8.5),
        CheckpointFigures(step=4, loss=6.0, dev_loss=None),
        CheckpointFigures(step=5, loss=5.0, dev_loss=None),
    )


def test_a_run_of_no_steps_has_no_checkpoint() -> None:
    assert checkpoint_figures([], 2) == ()


def test_of_a_long_run_the_latest_checkpoints_are_reported() -> None:
    figures = checkpoint_figures(log(dict.fromkeys(range(1, MOST_CHECKPOINTS + 3), 1.0), {}), 1)

    assert (len(figures), figures[0].step, figures[-1].step) == (MOST_CHECKPOINTS, 3, MOST_CHECKPOINTS + 2)


def test_the_best_checkpoint_is_the_earliest_of_least_dev_loss_and_never_the_start() -> None:
    assert best_step(log({}, {0: 0.1, 5: 2.0, 10: 1.5, 15: 1.5, 20: 3.0})) == 10
    assert best_step(log({5: 1.0}, {0: 0.1})) is None


@pytest.mark.parametrize(
    ("dev_losses", "patience", "over"),
    [
        ([3.0, 2.0, 1.0], 2, False),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 1.5], 2, True),
        ([2.0, 2.5, 1.0, 1.1], 2, False),
        ([2.0, 2.5, 1.0, 1.1, 1.0], 2, True),
        ([1.0, 2.0, 3.0, 4.0], 0, False),
        ([], 2, False),
    ],
)
def test_a_run_is_over_when_its_last_checkpoints_brought_no_lower_dev_loss(
    dev_losses: list[float], patience: int, over: bool
) -> None:
    by_step = dict(enumerate([0.0, *dev_losses]))
    assert is_over(log({}, by_step), patience) is over


@pytest.mark.parametrize(
    ("losses", "norm", "fault"),
    [
        ([2.0, math.nan], 1.0, "the loss was nan"),
        ([math.inf], 1.0, "the loss was inf"),
        ([2.0], math.inf, "the gradient was inf"),
        ([2.0] * 10 + [4.5] * 10, 1.0, "rose from 2.00 to 4.50 nats per token, as means of 10 steps"),
        ([2.0] * 10 + [4.5] * 9, 1.0, None),
        ([2.0] * 10 + [9.0] * 5 + [2.5] * 10, 1.0, None),
        ([4.0] * 10 + [0.5] * 10, 1.0, None),
    ],
)
def test_a_run_that_diverges_is_named(losses: list[float], norm: float, fault: str | None) -> None:
    found = divergence(losses, norm, limit=2.0)
    assert found is None if fault is None else fault in str(found)
