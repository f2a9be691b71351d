"""The trainers of DPO and KTO, on rows that are tokens already. The reference is the base: the adapter switched off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from services.forge.trainer.engines.order import InOrder
from services.forge.trainer.preferences import Pair, Rated
from services.forge.trainer.render import IGNORED, Example
from shared.config.recipe import Recipe

SFT_ONLY = frozenset({"packing", "padding_free", "dataset_kwargs"})  # arguments that the other trainers do not have


class Tokenized(InOrder):
    """Makes a preference trainer take its rows as they are: it neither renders, truncates nor drops one."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class DpoTrainer(Tokenized, DPOTrainer):  # type: ignore[misc]  # untyped where trl is not installed
    """Direct preference optimisation (arXiv 2305.18290)."""


class KtoTrainer(Tokenized, KTOTrainer):  # type: ignore[misc]
    """Kahneman-Tversky optimisation (arXiv 2402.01306)."""


class KtoCollator(DataCollatorForUnpairedPreference):  # type: ignore[misc]
    """Pairs each prompt with the answer to the row before it in the batch, for the estimate of the KL divergence.

    TRL does so once for all passes, in the order of its dataset; here each pass has an order of its own."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        before = [examples[-1], *examples[:-1]]
        mismatched = ({"KL_completion_ids": other["completion_ids"]} for other in before)
        return dict(super().torch_call([one | other for one, other in zip(examples, mismatched, strict=True)]))


def make_dpo(
    recipe: Recipe, asked: dict[str, Any], train: Sequence[Pair], dev: Sequence[Pair], **options: Any
) -> DpoTrainer:
    weights = {"sigmoid": 1.0} | ({"sft": recipe.sft_weight} if recipe.sft_weight else {})
    losses = {"loss_type": list(weights), "loss_weights": list(weights.values())}
    return DpoTrainer(
        args=DPOConfig(**_shared(recipe, asked), beta=recipe.beta, **losses),
        train_dataset=_pairs(train),
        eval_dataset=_pairs(dev) if dev else None,
        **options,
    )


def make_kto(
    recipe: Recipe, asked: dict[str, Any], train: Sequence[Rated], dev: Sequence[Rated], **options: Any
) -> KtoTrainer:
    """Both kinds of answers weigh the same in the sum, however many there are of each (eq. 8 of the paper)."""
    desirable = sum(example.desirable for example in train)
    weight = desirable / max(len(train) - desirable, 1)
    return KtoTrainer(
        args=KTOConfig(**_shared(recipe, asked), beta=recipe.beta, undesirable_weight=weight),
        train_dataset=_rated(train),
        eval_dataset=_rated(dev) if dev else None,
        data_collator=KtoCollator(pad_token_id=options["processing_class"].pad_token_id),
        **options,
    )


def _shared(recipe: Recipe, asked: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are the same for every loss. With no dropout asked for, the base's own is off too."""
    kept = {name: value for name, value in asked.items() if name not in SFT_ONLY}
    return kept | {"disable_dropout": recipe.dropout == 0}


def prompt_and_answer(example: Example) -> tuple[list[int], list[int]]:
    """The tokens before the first trained one, and those from it on."""
    start = next(at for at, label in enumerate(example.labels) if label != IGNORED)
    return list(example.input_ids[:start]), list(example.input_ids[start:])


def _pairs(pairs: Sequence[Pair]) -> Dataset:
    prompts, chosen = zip(*map(prompt_and_answer, pairs), strict=True)
    rejected = [prompt_and_answer(pair.rejected)[1] for pair in pairs]
    return Dataset.from_dict({"prompt_ids": list(prompts), "chosen_ids": list(chosen), "rejected_ids": rejected})


def _rated(examples: Sequence[Rated]) -> Dataset:
    prompts, answers = zip(*map(prompt_and_answer, examples), strict=True)
    labels = [example.desirable for example in examples]
    return Dataset.from_dict({"prompt_ids": list(prompts), "completion_ids": list(answers), "label": labels})
