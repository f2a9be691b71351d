"""The trainer of SDFT (arXiv 2601.19897): the model answers by itself, and is brought to what it would say with the reasons.

The teacher is the base: the adapter switched off. TRL has it in `trl.experimental`, which may change with any release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from trl.experimental.sdft import SDFTConfig, SDFTTrainer
from trl.experimental.sdft.sdft_trainer import DemonstrationTeacherContextBuilder

from services.forge.trainer.engines.order import InOrder
from services.forge.trainer.engines.preference import SFT_ONLY, prompt_and_answer
from services.forge.trainer.preferences import Taught
from shared.config.recipe import Recipe

Tokens = list[int]


class GivenTeacher(DemonstrationTeacherContextBuilder):  # type: ignore[misc]  # untyped where trl is not installed
    """Takes the teacher's prompt as it was rendered."""

    def _compose_teacher_prompt(self, prompt: Tokens, privileged_context: Tokens) -> Tokens:
        return privileged_context


class SdftTrainer(InOrder, SDFTTrainer):  # type: ignore[misc]
    """Takes prompts that are tokens already, and counts the tokens that it trains on as the other trainers do."""

    _total_train_tokens = 0

    def _tokenize_prompts(self, prompts: list[Tokens]) -> list[Tokens]:
        return prompts

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        batch = super()._prepare_inputs(generation_batch)
        if self.model.training:
            self._total_train_tokens += int(batch["prompt_mask"].sum() + batch["completion_mask"].sum())
        return batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs | ({"num_tokens": self._total_train_tokens} if self.model.training else {}), start_time)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Measure the dev loss with the same random numbers each time: its answers are drawn too."""
        torch.manual_seed(self.args.seed)
        return dict(super().evaluate(*args, **options))


def make_sdft(
    recipe: Recipe, asked: dict[str, Any], train: Sequence[Taught], dev: Sequence[Taught], **options: Any
) -> SdftTrainer:
    kept = {name: value for name, value in asked.items() if name not in {*SFT_ONLY, "max_length"}}
    arguments = SDFTConfig(
        **kept,
        max_prompt_length=None,
        max_completion_length=recipe.answer_tokens,
        num_generations=1,
        steps_per_generation=1,
        disable_dropout=recipe.dropout == 0,
    )
    trainer = SdftTrainer(
        args=arguments, train_dataset=_taught(train), eval_dataset=_taught(dev) if dev else None, **options
    )
    trainer.teacher_context_builder = GivenTeacher(trainer)
    return trainer


def _taught(examples: Sequence[Taught]) -> Dataset:
    prompts = [prompt_and_answer(example)[0] for example in examples]
    return Dataset.from_dict({"prompt": prompts, "privileged_context": [list(example.teacher) for example in examples]})
