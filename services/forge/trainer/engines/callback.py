"""What the trainer does between steps, whichever engine runs it: progress, checkpoints, dev loss, and when to end."""

from __future__ import annotations

import time
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from services.forge.job import CHECKPOINTS_DIR, TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.budget import Budget
from services.forge.trainer.curve import divergence, is_over, last_value, losses_by_step
from services.forge.trainer.energy import open_meter
from services.forge.trainer.engines.order import EpochOrder
from services.forge.trainer.memory import peak_bytes
from services.forge.trainer.stop import StopRequest
from shared.contracts.job import Progress
from shared.jobs.result_writer import InputError, Interrupted, ResultWriter

REPORT_S = 10.0  #: between two progress lines of one evaluation


class JobCallback(TrainerCallback):  # type: ignore[misc]  # untyped where transformers is not installed
    """Called by the trainer. A checkpoint is sealed first and its dev loss measured then, so that a stop loses neither:
    a run that resumes from a checkpoint without its dev loss begins by measuring it."""

    def __init__(
        self, job: TrainerJob, run: checkpoints.Run, writer: ResultWriter, stop: StopRequest, order: EpochOrder
    ) -> None:
        self._job, self._run, self._writer, self._stop, self._order = job, run, writer, stop, order
        self._folder = job.output / CHECKPOINTS_DIR
        self._began, self._first_step, self.first_token = 0.0, 0, 0
        # A worker has one of several devices: no counter here is of the run.
        self.budget = Budget(job.recipe, open_meter(_gpus()) if job.workers == 1 else None)
        self.ended_early = ""
        self._losses: list[float] = []
        self._measured, self._reported = 0, 0.0
        self.trainer: SFTTrainer | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self._losses = list(losses_by_step(state.log_history, "loss").values())
        self.first_token = int(max((entry.get("num_tokens", 0) for entry in state.log_history), default=0))
        assert self.trainer is not None
        self.trainer._total_train_tokens = self.first_token
        self._first_step = state.global_step
        self._measure(state)
        self._began = time.monotonic()
        self.budget.begin(state.log_history)
        return control

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._order.epoch = int(state.epoch or 0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step < state.max_steps and self.budget.limited:
            (self.ended_early,) = broadcast_object_list([self.budget.spent()])  # all workers end after the same step
        if self._stop.made or self.ended_early:
            control.should_save, control.should_training_stop = True, True
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        self._losses.append(logs["loss"])
        state.log_history[-1] |= self.budget.used()
        self._writer.progress(self._progress(state, logs))
        recipe = self._job.recipe
        if fault := divergence(self._losses, logs.get("grad_norm", 0.0), recipe.divergence):
            raise InputError(
                f"the training diverged: at step {state.global_step} {fault}. Take a recipe with a lower learning_rate "
                f"(now {recipe.learning_rate:g}) or a longer warmup_ratio (now {recipe.warmup_ratio:g})"
            )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        assert self.trainer is not None
        self.trainer.accelerator.wait_for_everyone()  # each worker saves its random numbers
        if state.is_world_process_zero:
            checkpoints.seal(checkpoints.path(self._folder, state.global_step), self._run)
        self._measure(state)
        if state.is_world_process_zero:
            checkpoints.rotate(self._folder, state.log_history)
        if is_over(state.log_history, self._job.recipe.patience) and state.global_step < state.max_steps:
            control.should_training_stop = True
            self.ended_early = f"{self._job.recipe.patience} checkpoints in a row brought no lower dev loss"
        return control

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, eval_dataloader: Any, **_: Any
    ) -> None:
        if self._stop.made:
            raise Interrupted(f"asked to stop while the dev loss of step {state.global_step} was measured")
        self._measured += 1
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported, total = time.monotonic(), len(eval_dataloader)
            self._writer.progress(Progress(phase="evaluate", done=self._measured, total=total, unit="batches"))

    def _measure(self, state: TrainerState) -> None:
        """Measure the dev loss where it is due, which leaves the random numbers of the training as they were."""
        step = state.global_step
        due = step % self._job.recipe.checkpoint_steps == 0 or step == state.max_steps or self.ended_early
        if self._stop.made or not due or step in losses_by_step(state.log_history, "eval_loss"):
            return
        assert self.trainer is not None
        if self.trainer.eval_dataset is not None:
            self._measured, self._reported = 0, -REPORT_S
            with torch.random.fork_rng():
                self.trainer.evaluate()
        dev_loss = last_value(state.log_history, "eval_loss")
        self._writer.progress(
            Progress(phase="checkpoint", done=step, total=state.max_steps, unit="steps", dev_loss=dev_loss)
        )

    def _progress(self, state: TrainerState, logs: dict[str, float]) -> Progress:
        seconds = time.monotonic() - self._began
        left_s = seconds / max(state.global_step - self._first_step, 1) * (state.max_steps - state.global_step)
        limit_s = self.budget.left_s()
        return Progress(
            phase="train",
            done=state.global_step,
            total=state.max_steps,
            unit="steps",
            loss=logs["loss"],
            eta_s=round(left_s if limit_s is None else min(left_s, limit_s), 1),
            tokens=int(logs["num_tokens"]),
            tokens_per_s=round((logs["num_tokens"] - self.first_token) / seconds, 1),
            learning_rate=logs["learning_rate"],
            memory_bytes=peak_bytes(),
            dev_loss=last_value(state.log_history, "eval_loss"),
            energy_j=last_value(state.log_history, "joules"),
        )


def _gpus() -> list[str]:
    """The UUIDs of the GPUs that are trained on, as NVML names them."""
    return [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in range(torch.cuda.device_count())]
