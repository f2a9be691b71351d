"""The engine on TRL and PEFT: LoRA on a base in 16 or 32 bit, on CPU or GPU."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer

from services.forge.job import CHECKPOINTS_DIR, TrainerJob
from services.forge.replay.answers import Sampling
from services.forge.trainer import checkpoints
from services.forge.trainer.curve import best_step, checkpoint_figures, last_value, losses_by_step
from services.forge.trainer.engines.arithmetic import FusedLinear
from services.forge.trainer.engines.callback import JobCallback
from services.forge.trainer.engines.likelihood import compare
from services.forge.trainer.engines.order import EpochOrder, InOrder
from services.forge.trainer.engines.port import Trained
from services.forge.trainer.memory import peak_bytes
from services.forge.trainer.preferences import Pair
from services.forge.trainer.provenance import cpu_name
from services.forge.trainer.render import IGNORED, ChatTokenizer, Example
from services.forge.trainer.stop import StopRequest
from shared.config.recipe import LossName, Recipe
from shared.contracts.forge import ADAPTER_CONFIG, ADAPTER_FILES, ADAPTER_WEIGHTS, PreferenceFigures
from shared.jobs.result_writer import InputError, Interrupted, ResultWriter

Maker = Callable[..., Any]  #: (recipe, arguments, train, dev, **options) -> trainer
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class OrderedTrainer(InOrder, SFTTrainer):  # type: ignore[misc]  # untyped where trl is not installed
    """Every trained token counts the same in a dev loss."""

    dev_row: float  #: trained tokens of a dev row, in the mean

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> tuple[Any, Any, Any]:
        """Weigh the mean loss of a batch by its trained tokens: the mean over all batches is taken by rows."""
        of_row = (inputs["labels"] != IGNORED).sum(dim=1).float().mean()
        loss, logits, labels = super().prediction_step(model, inputs, *args, **options)
        return loss * of_row.to(loss.device) / self.dev_row, logits, labels


class TrlEngine:
    """Implements `Engine`."""

    distributions: tuple[str, ...] = ("torch", "transformers", "trl", "peft", "accelerate")

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
    def template(self) -> str:
        return str(self._tokenizer.chat_template)

    @property
    def device(self) -> str:
        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
        return f"{cpu_name()}, {torch.get_num_threads()} threads"

    @property
    def context(self) -> int:
        return int(self._model.config.get_text_config().max_position_embeddings)

    def load(self, job: TrainerJob) -> None:
        set_seed(job.effective_seed)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(job.base.path))
            if self._tokenizer.pad_token is None:  # as in Llama 3; what is padded is masked
                self._tokenizer.pad_token = self._tokenizer.eos_token
            self._model = self._load_model(job)
        except (OSError, ValueError) as error:
            raise InputError(f"the base at {job.base.path} cannot be loaded: {error}") from error

    def _load_model(self, job: TrainerJob) -> Any:
        on_gpu = torch.cuda.is_available()
        model = AutoModelForCausalLM.from_pretrained(
            str(job.base.path),
            dtype=DTYPES[job.recipe.precision],
            use_safetensors=True,
            # On CPU and short rows the fused kernel's backward pass is slower than plain attention, by a fifth of a step.
            attn_implementation="sdpa" if on_gpu else "eager",
        )
        return model.to("cuda" if on_gpu else "cpu")  # at once: it generates before it is trained

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
        trainer, callback = self._trainer(job, train, dev, writer, stop)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        self._model, state = trainer.model, trainer.state
        if stop.made and state.global_step < state.max_steps:
            raise Interrupted(f"asked to stop at step {state.global_step} of {state.max_steps}; a checkpoint was saved")
        losses, dev_losses = (losses_by_step(state.log_history, name) for name in ("loss", "eval_loss"))
        taken = (job.recipe.keep_best and best_step(state.log_history)) or state.global_step
        if taken != state.global_step:
            self._take(checkpoints.path(job.output / CHECKPOINTS_DIR, taken))
        return Trained(
            steps=state.global_step,
            epochs=round(state.epoch or 0.0, 3),
            final_loss=losses.get(state.global_step),
            dev_loss_before=dev_losses.get(0),
            dev_loss_after=dev_losses.get(taken),
            taken=taken,
            checkpoints=checkpoint_figures(state.log_history, job.recipe.checkpoint_steps),
            seen_tokens=int(trainer._total_train_tokens),
            resumed_at=checkpoints.steps(resume) if resume else 0,
            resumed_tokens=callback.first_token,
            seconds=last_value(state.log_history, "seconds") or 0.0,
            energy_j=last_value(state.log_history, "joules"),
            ended_early=callback.ended_early,
            peak_bytes=peak_bytes(),
            versions={name: importlib.metadata.version(name) for name in self.distributions},
        )

    def save(self, folder: Path, base_name: str) -> None:
        model: PeftModel = self._model
        model.save_pretrained(str(folder), safe_serialization=True)
        for file in folder.iterdir():
            if file.name not in ADAPTER_FILES:  # PEFT also writes a model card
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        path = folder / ADAPTER_CONFIG
        config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name}
        config["target_modules"] = sorted(config["target_modules"])  # a set, written in another order by each process
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def compare(self, pairs: Sequence[Pair]) -> PreferenceFigures:
        return compare(self._model, pairs)

    def _trainer(
        self, job: TrainerJob, train: Sequence[Example], dev: Sequence[Example], writer: ResultWriter, stop: StopRequest
    ) -> tuple[SFTTrainer, JobCallback]:
        lengths = [sum(len(side.input_ids) for side in example.sides) for example in train]
        order = EpochOrder(lengths, job.effective_seed, job.recipe.batch_size if job.recipe.group_by_length else None)
        run = checkpoints.identity(job, checkpoints.digest_examples([*train, *dev]))
        callback = JobCallback(job, run, writer, stop, order)
        model, adapter = self._adapted(job)
        trainer = maker(job.recipe.loss)(
            job.recipe,
            arguments(job, sum(lengths)),
            train,
            dev,
            model=model,
            processing_class=self._tokenizer,
            peft_config=adapter,
            callbacks=[callback],
        )
        trainer.order, trainer.patience, callback.trainer = order, job.recipe.patience, trainer
        return trainer, callback

    def _adapted(self, job: TrainerJob) -> tuple[Any, LoraConfig | None]:
        """The model, and the adapter that the trainer is to put on it; None where it has one."""
        config = LoraConfig(
            r=job.recipe.r,
            lora_alpha=job.recipe.alpha,
            use_rslora=job.recipe.rslora,
            lora_dropout=job.recipe.dropout,
            target_modules=target_modules(job.recipe),
            task_type="CAUSAL_LM",
        )
        config._register_custom_module({torch.nn.Linear: FusedLinear})
        return self._model, config

    def _take(self, checkpoint: Path) -> None:
        """Put the adapter of a checkpoint in place of the last one."""
        set_peft_model_state_dict(self._model, load_file(checkpoint / ADAPTER_WEIGHTS))


def make_sft(
    recipe: Recipe, asked: dict[str, Any], train: Sequence[Example], dev: Sequence[Example], **options: Any
) -> OrderedTrainer:
    """The trainer of loss sft, as the makers of the other losses make theirs."""
    trainer = OrderedTrainer(
        args=SFTConfig(**asked),
        train_dataset=_dataset(train),
        eval_dataset=_dataset(dev) if dev else None,
        **options,
    )
    trainer.dev_row = fmean(example.trained for example in dev) if dev else 0.0
    return trainer


def maker(loss: LossName) -> Maker:
    """The function that makes the trainer of a loss."""
    if loss == "sft":
        return make_sft
    # Imported when it is needed: Unsloth changes TRL's classes as they are imported, and trains sft alone.
    from services.forge.trainer.engines import distill, preference

    makers: dict[LossName, Maker] = {
        "dpo": preference.make_dpo,
        "kto": preference.make_kto,
        "sdft": distill.make_sdft,
    }
    return makers[loss]


def target_modules(recipe: Recipe) -> str | list[str]:
    return recipe.target_modules if isinstance(recipe.target_modules, str) else list(recipe.target_modules)


def _dataset(examples: Sequence[Example]) -> Dataset:
    # With labels present TRL uses the tokens as they are: it neither masks, truncates nor renders.
    return Dataset.from_dict(
        {
            "input_ids": [np.asarray(example.input_ids, dtype=np.int32) for example in examples],
            "labels": [np.asarray(example.labels, dtype=np.int32) for example in examples],
        }
    )


def arguments(job: TrainerJob, tokens: int) -> dict[str, Any]:
    """The recipe as the arguments of SFTConfig; `tokens` is the length of one pass."""
    recipe, on_cpu = job.recipe, not torch.cuda.is_available()
    return {
        "output_dir": str(job.output / CHECKPOINTS_DIR),
        "seed": job.effective_seed,
        "num_train_epochs": recipe.passes(tokens),
        "per_device_train_batch_size": recipe.rows_at_once,
        "per_device_eval_batch_size": recipe.rows_at_once,
        "gradient_accumulation_steps": recipe.accumulation // job.workers,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule if recipe.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": recipe.warmup_ratio,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": recipe.precision == "bf16",
        "use_cpu": on_cpu,
        "gradient_checkpointing": job.checkpointing or not on_cpu,
        # Nothing may be truncated: the mask audit has refused examples that are too long.
        "max_length": None,
        "packing": False,
        "padding_free": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "dataloader_pin_memory": not on_cpu,
        "logging_steps": 1,
        # A loss that is no number must be seen, not replaced by a mean.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_steps,
        # JobCallback measures the dev loss, and removes old checkpoints once a newer one is sealed.
        "eval_strategy": "no",
    }
