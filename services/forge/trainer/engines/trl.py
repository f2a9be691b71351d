"""The engine on TRL and PEFT: plain LoRA on a bf16 base, on CPU or GPU."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from services.forge.job import CHECKPOINTS_DIR, TrainerJob
from services.forge.replay.answers import Sampling
from services.forge.trainer import checkpoints
from services.forge.trainer.engines.port import Trained
from services.forge.trainer.render import ChatTokenizer, Example
from services.forge.trainer.stop import StopRequest
from shared.contracts.forge import ADAPTER_CONFIG, ADAPTER_FILES
from shared.contracts.job import Progress
from shared.jobs.result_writer import InputError, Interrupted, ResultWriter

DISTRIBUTIONS = ("torch", "transformers", "trl", "peft", "accelerate")
STEPS_IN_HAND = 2


class TrlEngine:
    """Implements `Engine`."""

    def __init__(self) -> None:
        self._model: Any = None
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> ChatTokenizer:
        tokenizer: ChatTokenizer = self._tokenizer
        return tokenizer

    @property
    def end_of_turn(self) -> frozenset[int]:
        stops = self._model.generation_config.eos_token_id
        listed = stops if isinstance(stops, list) else [stops]
        return frozenset(token for token in (*listed, self._tokenizer.eos_token_id) if token is not None)

    @property
    def context(self) -> int:
        return int(self._model.config.get_text_config().max_position_embeddings)

    def load(self, job: TrainerJob) -> None:
        set_seed(job.effective_seed)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(job.base.path))
            self._model = AutoModelForCausalLM.from_pretrained(
                str(job.base.path),
                dtype=torch.bfloat16,
                use_safetensors=True,
                # On CPU and short rows the fused kernel's backward pass is slower than plain attention, by a fifth of a step.
                attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
            )
        except (OSError, ValueError) as error:
            raise InputError(f"the base at {job.base.path} cannot be loaded: {error}") from error

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, seed: int) -> list[list[int]]:
        padded = self._tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
        torch.manual_seed(seed)
        with torch.inference_mode():
            continued = self._model.generate(
                **padded.to(self._model.device),
                max_new_tokens=sampling.max_tokens,
                do_sample=True,
                **sampling.model_dump(exclude={"max_tokens"}),
            )
        return [self._until_end(row.tolist()) for row in continued[:, padded["input_ids"].shape[1] :]]

    def _until_end(self, tokens: list[int]) -> list[int]:
        ends = [place for place, token in enumerate(tokens) if token in self.end_of_turn]
        return tokens[: ends[0] + 1] if ends else tokens

    def train(
        self,
        job: TrainerJob,
        train: Sequence[Example],
        dev: Sequence[Example],
        resume: Path | None,
        writer: ResultWriter,
        stop: StopRequest,
    ) -> Trained:
        trainer = self._trainer(job, train, dev, writer, stop)
        before = self._dev_loss(trainer) if dev and resume is None else None
        outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        self._model = trainer.model
        state = trainer.state
        if stop.made and state.global_step < state.max_steps:
            raise Interrupted(f"asked to stop at step {state.global_step} of {state.max_steps}; a checkpoint was saved")
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        return Trained(
            steps=state.global_step,
            epochs=round(state.epoch or 0.0, 3),
            final_loss=losses[-1] if losses else outcome.training_loss,
            dev_loss_before=before,
            dev_loss_after=self._dev_loss(trainer) if dev else None,
            seen_tokens=int(trainer._total_train_tokens),
            resumed_at=int(resume.name.rpartition("-")[2]) if resume else 0,
            versions={name: importlib.metadata.version(name) for name in DISTRIBUTIONS},
        )

    def save(self, folder: Path, base_name: str) -> None:
        model: PeftModel = self._model
        model.save_pretrained(str(folder), safe_serialization=True)
        for file in folder.iterdir():
            if file.name not in ADAPTER_FILES:  # PEFT also writes a model card
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        path = folder / ADAPTER_CONFIG
        config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _trainer(
        self, job: TrainerJob, train: Sequence[Example], dev: Sequence[Example], writer: ResultWriter, stop: StopRequest
    ) -> SFTTrainer:
        recipe = job.recipe
        trainer = SFTTrainer(
            model=self._model,
            args=_arguments(job, has_dev=bool(dev)),
            train_dataset=_dataset(train),
            eval_dataset=_dataset(dev) if dev else None,
            processing_class=self._tokenizer,
            peft_config=LoraConfig(
                r=recipe.r,
                lora_alpha=recipe.alpha,
                lora_dropout=recipe.dropout,
                target_modules=recipe.target_modules
                if isinstance(recipe.target_modules, str)
                else list(recipe.target_modules),
                task_type="CAUSAL_LM",
            ),
            callbacks=[JobCallback(job, writer, stop)],
        )
        if dev and recipe.keep_best:
            trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=STEPS_IN_HAND))
        return trainer

    def _dev_loss(self, trainer: SFTTrainer) -> float:
        return float(trainer.evaluate()["eval_loss"])


def _dataset(examples: Sequence[Example]) -> Dataset:
    # With labels present TRL uses the tokens as they are: it neither masks, truncates nor renders.
    return Dataset.from_dict(
        {
            "input_ids": [np.asarray(example.input_ids, dtype=np.int32) for example in examples],
            "labels": [np.asarray(example.labels, dtype=np.int32) for example in examples],
        }
    )


def _arguments(job: TrainerJob, has_dev: bool) -> SFTConfig:
    recipe, on_cpu = job.recipe, not torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(job.output / CHECKPOINTS_DIR),
        seed=job.effective_seed,
        data_seed=job.effective_seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup_ratio,
        bf16=True,
        use_cpu=on_cpu,
        gradient_checkpointing=not on_cpu,
        # Nothing may be truncated: the mask audit has refused examples that are too long.
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="group_by_length",
        dataloader_pin_memory=not on_cpu,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=recipe.checkpoint_steps,
        save_total_limit=2,
        eval_strategy="steps" if has_dev else "no",
        eval_steps=recipe.checkpoint_steps,
        load_best_model_at_end=has_dev and recipe.keep_best,
        metric_for_best_model="eval_loss" if has_dev else None,
        greater_is_better=False if has_dev else None,
    )


class JobCallback(TrainerCallback):  # type: ignore[misc]  # untyped where transformers is not installed
    """Writes progress, obeys a stop request, completes each checkpoint; called by the trainer between steps."""

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
