"""The loss curve of a ritual, from the progress that its trainers wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.contracts.forge import AdapterForged
from shared.contracts.job import PROGRESS_FILE, Progress
from shared.jobs.runner import OUTPUT
from shared.storage.untrusted import MIB, OutputError, parse_model, read_tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from shared.storage.artifacts import Artifacts

LARGEST = 64 * MIB  # of one attempt's progress, some 200,000 steps; of more the last part


@dataclass(frozen=True)
class Curve:
    """Losses by step, in nats per trained token; the dev loss at step 0 is the base's. `saved` are the checkpoints."""

    losses: dict[int, float] = field(default_factory=dict)
    dev_losses: dict[int, float] = field(default_factory=dict)
    saved: tuple[int, ...] = ()


def read_curve(artifacts: Artifacts, ritual: UUID) -> Curve:
    """The curve over all attempts; what a later one trained again counts. Empty where nothing is left of the runs."""
    losses: dict[int, float] = {}
    dev_losses: dict[int, float | None] = {}
    for output in _outputs(artifacts.runs(ritual)):
        lines = list(_lines(output))
        if began := [line.done for line in lines if line.phase == "train"]:
            losses = {step: loss for step, loss in losses.items() if step < began[0]}
            dev_losses = {step: loss for step, loss in dev_losses.items() if step < began[0]}
        losses |= {line.done: line.loss for line in lines if line.phase == "train" and line.loss is not None}
        dev_losses |= {line.done: line.dev_loss for line in lines if line.phase == "checkpoint"}
    measured = {step: loss for step, loss in dev_losses.items() if loss is not None}
    return Curve(losses, measured, tuple(step for step in dev_losses if step))


def _outputs(runs: Path) -> list[Path]:
    """The trainers' output folders, by attempt."""
    attempts = [int(path.name) for path in runs.iterdir() if path.name.isdecimal()] if runs.is_dir() else []
    return [runs / str(attempt) / str(AdapterForged.job) / OUTPUT for attempt in sorted(attempts)]


def _lines(output: Path) -> Iterator[Progress]:
    """The lines that can be read: a job writes what it likes."""
    try:
        text = read_tail(output, PROGRESS_FILE, LARGEST)
    except OutputError:
        return
    for line in text.splitlines():
        try:
            yield parse_model(line, Progress, PROGRESS_FILE)
        except OutputError:
            continue
