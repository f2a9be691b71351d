"""The values of `recipe = "auto"`: picked by rows, tokens and size of the base, with the reason.

Sources: LoRA Without Regret (Thinking Machines, 2025) for rank, rate and batch; the rate of small bases is measured here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.config.recipe import Recipe

MILLION = 1e6
SMALL, MIDDLE = 500 * MILLION, 4000 * MILLION  # parameters
MANY_ROWS = 5000
FEW_ROWS = 100
LEAST_STEPS = 75
CHECKPOINTS = 8


@dataclass(frozen=True)
class Task:
    """What is to be trained: rows, their tokens (the harvest's estimate), and parameters of the base."""

    rows: int
    tokens: int
    parameters: int


def pick(recipe: Recipe, task: Task, max_rank: int) -> tuple[Recipe, str]:
    """The recipe with all values that follow from the task, and why; `recipe` has the others."""
    epochs = 3 if task.rows < FEW_ROWS else 2 if task.rows < MANY_ROWS else 1
    batch_size = max((size for size in (8, 16) if epochs * task.rows / size >= LEAST_STEPS), default=4)
    steps = math.ceil(epochs * task.rows / batch_size)
    rank = 32 if task.rows >= MANY_ROWS and max_rank >= 32 else 16 if max_rank >= 16 else 8
    rate = 8e-4 if task.parameters < SMALL else 4e-4 if task.parameters < MIDDLE else 2e-4
    picked = {
        "r": rank,
        "alpha": 2 * rank,
        "learning_rate": rate,
        "schedule": "cosine" if steps > 500 else "linear",
        "epochs": epochs,
        "batch_size": batch_size,
        "max_length": "p99" if task.rows >= 1000 else "auto",
        "checkpoint_steps": max(20, math.ceil(steps / CHECKPOINTS)),
    }
    values = ", ".join(f"{name} {value}" for name, value in picked.items())
    reason = (
        f"{task.rows} rows of about {task.tokens / max(task.rows, 1):.0f} tokens give {steps} steps; "
        f"a base of {task.parameters / MILLION:.0f} M parameters bears that rate"
    )
    return Recipe.model_validate(recipe.model_dump() | picked), f"auto: {values}. {reason}"
