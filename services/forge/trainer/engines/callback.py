"""Callback in a Transformers training loop: writes progress, obeys a stop request, completes each checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.forge.job import TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.stop import StopRequest
from shared.contracts.job import Progress
from shared.jobs.result_writer import ResultWriter


class JobCallback(TrainerCallback):  # type: ignore[misc]  # untyped where transformers is not installed
    """Called by the trainer between steps; it only reads state, sets control flags and writes files."""

    def __init__(self, job: TrainerJob, writer: ResultWriter, stop: StopRequest) -> None:
        self._job, self._writer, self._stop = job, writer, stop
        self._began, self._first_step = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self._began, self._first_step = time.monotonic(), state.global_step
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self._stop.made:
            # No evaluation: the grace time is for the checkpoint.
            control.should_save, control.should_training_stop, control.should_evaluate = True, True, False
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        made = max(state.global_step - self._first_step, 1)
        left = (time.monotonic() - self._began) / made * (state.max_steps - state.global_step)
        self._writer.progress(
            Progress(
                phase="train",
                done=state.global_step,
                total=state.max_steps,
                unit="steps",
                loss=logs["loss"],
                eta_s=round(left, 1),
            )
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoints.seal(Path(str(args.output_dir)) / f"{checkpoints.PREFIX}{state.global_step}", self._job)
