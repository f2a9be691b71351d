"""The engine on Unsloth: LoRA on a bf16 base, QLoRA on a base in 4 bit; on a GPU, and by its own backend on a CPU.

Unsloth replaces classes of transformers and TRL on import, so it comes first. It changes arguments without an error, and
loads other weights than it was asked for where it cannot: what it made is compared with the recipe before the first step.
"""

from __future__ import annotations

# isort: off
import unsloth
from unsloth import FastLanguageModel

# isort: on
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AutoConfig
from trl import SFTTrainer

from services.forge.job import TrainerJob
from services.forge.trainer.engines.callback import JobCallback
from services.forge.trainer.engines.trl import DTYPES, TrlEngine, arguments, target_modules
from services.forge.trainer.render import IGNORED, Example
from services.forge.trainer.stop import StopRequest
from shared.config.recipe import Recipe
from shared.jobs.result_writer import InputError, ResultWriter

# A path and two that are kept in another form; Unsloth sets max_length to the base's context, which no row exceeds.
OTHERWISE_KEPT = {"output_dir", "report_to", "dataset_kwargs", "max_length"}
FOUR_BIT = "Linear4bit"


class UnslothEngine(TrlEngine):
    """Implements `Engine`. Everything but the base and the placing of the adapter is as in TrlEngine."""

    distributions = (*TrlEngine.distributions, "unsloth", "unsloth_zoo", "bitsandbytes")

    def _load_model(self, job: TrainerJob) -> Any:
        model, _ = FastLanguageModel.from_pretrained(**loading(job))
        return model

    def _adapted(self, job: TrainerJob) -> tuple[Any, None]:
        return FastLanguageModel.get_peft_model(self._model, **adapting(job)), None

    def _trainer(
        self, job: TrainerJob, train: Sequence[Example], dev: Sequence[Example], writer: ResultWriter, stop: StopRequest
    ) -> tuple[SFTTrainer, JobCallback]:
        trainer, callback = super()._trainer(job, train, dev, writer, stop)
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:  # bf16 on a base in 4 bit, as TRL sets it, loses small updates
                parameter.data = parameter.data.float()
        asked = arguments(job, sum(len(example.input_ids) for example in train))
        seen = trainer.data_collator([trainer.train_dataset[0]])
        faults = (
            *changed_arguments(asked, trainer.args),
            *changed_model(job, trainer.model),
            *changed_row(train[0], seen),
        )
        if faults:
            made = f"unsloth {unsloth.__version__} made something else than was asked for"
            raise InputError(f"{made}: {'; '.join(faults)}")
        return trainer, callback


def loading(job: TrainerJob) -> dict[str, Any]:
    """The arguments of FastLanguageModel.from_pretrained."""
    four_bit = job.recipe.method == "qlora"
    return {
        "model_name": str(job.base.path),
        # Nothing longer: Unsloth would scale the positions of the base without a word.
        "max_seq_length": AutoConfig.from_pretrained(str(job.base.path)).get_text_config().max_position_embeddings,
        "dtype": DTYPES[job.recipe.precision],
        "load_in_4bit": four_bit,
        "load_in_8bit": False,
        "load_in_16bit": not four_bit and job.recipe.precision == "bf16",
        "use_exact_model_name": True,
        "use_gradient_checkpointing": _checkpointing(),
        "random_state": job.effective_seed,
    }


def adapting(job: TrainerJob) -> dict[str, Any]:
    """The arguments of FastLanguageModel.get_peft_model."""
    return {
        "r": job.recipe.r,
        "target_modules": target_modules(job.recipe),
        "lora_alpha": job.recipe.alpha,
        "use_rslora": job.recipe.rslora,
        "lora_dropout": job.recipe.dropout,
        "bias": "none",
        "use_gradient_checkpointing": _checkpointing(),
        "random_state": job.effective_seed,
    }


def changed_arguments(asked: dict[str, Any], made: Any) -> Iterator[str]:
    """Each argument of the trainer that is not as it was asked for."""
    for name in sorted(asked.keys() - OTHERWISE_KEPT):
        if (found := getattr(made, name)) != asked[name]:
            yield f"{name} is {found} instead of {asked[name]}"


def changed_model(job: TrainerJob, model: Any) -> Iterator[str]:
    """What of the base's precision and of the adapter is not as the recipe has it."""
    recipe, config = job.recipe, model.peft_config["default"]
    made = (config.r, config.lora_alpha, config.use_rslora, config.lora_dropout, config.bias, config.modules_to_save)
    if made != (recipe.r, recipe.alpha, recipe.rslora, recipe.dropout, "none", None):
        yield f"the adapter is {made}"
    if left_out := list(_left_out(recipe, model)):
        yield f"{len(left_out)} layers are not adapted, {left_out[0]} among them"
    adapted = [module for module in model.modules() if hasattr(module, "lora_A")]
    four_bit = [module for module in adapted if type(module.get_base_layer()).__name__ == FOUR_BIT]
    if len(four_bit) != (len(adapted) if recipe.method == "qlora" else 0):
        yield f"{len(four_bit)} of {len(adapted)} adapted layers are in 4 bit, with method {recipe.method}"


def changed_row(example: Example, batch: Any) -> Iterator[str]:
    """What a batch of one row does not have as the row has it."""
    made = int(batch["attention_mask"].sum()), int((batch["labels"] != IGNORED).sum())
    if made != (asked := (len(example.input_ids), example.trained)):
        yield f"a row of {asked[0]} tokens, {asked[1]} of them trained, has become {made[0]} and {made[1]}"


def _left_out(recipe: Recipe, model: Any) -> Iterator[str]:
    """The linear layers that the recipe names and that have no adapter."""
    for name, module in model.named_modules():
        plain = isinstance(module, torch.nn.Linear) and "lora_" not in name and not name.endswith("base_layer")
        leaf = name.rpartition(".")[2]
        wanted = recipe.target_modules == "all-linear" or leaf in recipe.target_modules
        if plain and wanted and module is not model.get_output_embeddings():
            yield name


def _checkpointing() -> str | bool:
    return "unsloth" if torch.cuda.is_available() else False
