"""The pilot of an engine: some real steps on rows of the run's mean length, for their rate alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice

from services.forge.job import TrainerJob
from services.forge.trainer.engines.port import Engine
from services.forge.trainer.render import Example
from services.forge.trainer.stop import StopRequest
from shared.contracts.frozen import Frozen
from shared.contracts.job import Progress
from shared.jobs.result_writer import ResultWriter

STEPS = 5  #: the first is not counted: it warms up and may compile
SEEN = 256  #: rows that are rendered to find those of mean length


class Rate(Frozen):
    """The result of a pilot."""

    tokens_per_s: float


class StepClock(ResultWriter):
    """A writer that notes when each step ended."""

    def __init__(self, writer: ResultWriter) -> None:
        super().__init__(writer.output)
        self.ends: list[float] = []

    def progress(self, progress: Progress) -> None:
        super().progress(progress)
        if progress.phase == "train":
            self.ends.append(time.monotonic())


def measure(
    job: TrainerJob, engine: Engine, examples: Sequence[Example], writer: ResultWriter, stop: StopRequest
) -> Rate:
    """Train STEPS steps and return the rate of all but the first."""
    batch = job.recipe.batch_size
    chosen = typical(examples, STEPS * batch)
    short = job.recipe.model_copy(update={"epochs": 1, "checkpoint_steps": STEPS, "keep_best": False})
    clock = StepClock(writer)
    engine.train(job.model_copy(update={"recipe": short}), chosen, [], None, clock, stop)
    tokens = sum(len(example.input_ids) for example in chosen) * (len(clock.ends) - 1) / len(clock.ends)
    return Rate(tokens_per_s=round(tokens / (clock.ends[-1] - clock.ends[0]), 1))


def typical(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` examples of about the mean length, repeated where there are not as many."""
    mean = sum(len(example.input_ids) for example in examples) / len(examples)
    nearest = sorted(examples, key=lambda example: abs(len(example.input_ids) - mean))
    return list(islice(cycle(nearest[:count]), count))
