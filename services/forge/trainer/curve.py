"""The loss curve of a run, as its trainer logs it: what is reported of it, and what follows from it.

Everything is a function of the log, which a checkpoint holds: a resumed run decides as one that was not interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from shared.contracts.forge import CheckpointFigures

MOST_CHECKPOINTS = 500  # that go on the bus
WINDOW = 10  # steps over which a loss is averaged

Log = Iterable[Mapping[str, float]]


def losses_by_step(log: Log, name: str) -> dict[int, float]:
    """The values that were logged under `name`, by step."""
    return {int(entry["step"]): entry[name] for entry in log if name in entry}


def last_value(log: Log, name: str) -> float | None:
    """The value that was last logged under `name`; None where none was."""
    return next(reversed(losses_by_step(log, name).values()), None)


def checkpoint_figures(log: Log, every: int) -> tuple[CheckpointFigures, ...]:
    """The checkpoints of a run that saves one every so many steps and one at its end."""
    losses, dev_losses = losses_by_step(log, "loss"), losses_by_step(log, "eval_loss")
    last = max(losses, default=0)
    steps = [step for step in losses if step % every == 0 or step == last]
    return tuple(
        CheckpointFigures(step=step, loss=losses[step], dev_loss=dev_losses.get(step))
        for step in steps[-MOST_CHECKPOINTS:]
    )


def best_step(log: Log) -> int | None:
    """The checkpoint with the least dev loss, the earliest of equals; None where none was measured."""
    dev_losses = {step: loss for step, loss in losses_by_step(log, "eval_loss").items() if step}
    return min(dev_losses, key=lambda step: dev_losses[step], default=None)


def is_over(log: Log, patience: int) -> bool:
    """Whether the last `patience` checkpoints brought no lower dev loss; never for 0."""
    steps = [step for step in losses_by_step(log, "eval_loss") if step]
    best = best_step(log)
    return bool(patience) and best is not None and len(steps) - 1 - steps.index(best) >= patience


def divergence(losses: Sequence[float], norm: float, limit: float) -> str | None:
    """How a run has diverged, by the losses of its steps and the norm of its last gradient; None where it has not."""
    if not math.isfinite(losses[-1]):
        return f"the loss was {losses[-1]}"
    if not math.isfinite(norm):
        return f"the gradient was {norm}"
    if len(losses) < 2 * WINDOW:
        return None
    began, now = fmean(losses[:WINDOW]), fmean(losses[-WINDOW:])
    if now - began > limit:
        return f"the loss rose from {began:.2f} to {now:.2f} nats per token, as means of {WINDOW} steps"
    return None
