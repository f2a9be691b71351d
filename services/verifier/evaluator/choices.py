"""Suites of choices through lm-eval: log-likelihood of each choice, one arm at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from services.verifier.evaluator.arms import Arms
from services.verifier.results import ItemScore
from shared.contracts.verify import Arm
from shared.storage.suites import LoadedSuite

BATCH = 32


class Scorer(HFLM):  # type: ignore[misc]
    """lm-eval's own model, which also reports how many rows it has read."""

    def __init__(self, arms: Arms, read: Callable[[int], None]) -> None:
        # bfloat16 log-probabilities would tie; only the softmax needs float32.
        super().__init__(pretrained=arms.model, tokenizer=arms.tokenizer, batch_size=BATCH, softmax_dtype=torch.float32)
        self._read = read

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        logits = super()._model_call(inps, attn_mask, labels)
        self._read(len(inps))
        return logits


def measure(
    arms: Arms, arm: Arm, suite: LoadedSuite, seed: int, advance: Callable[[int], None], limit: int | None = None
) -> list[ItemScore]:
    """Score every item in one arm; of each kind only the first `limit`, where that is given."""
    tasks = [task_of(suite, kind) for kind in suite.files]
    found = sampled(arms, arm, tasks, seed, count(suite, limit), advance, limit)
    samples = {name.removeprefix(f"{suite.name}_"): rows for name, rows in found.items()}
    return [_score(suite, kind, arm, sample) for kind, rows in sorted(samples.items()) for sample in rows]


def sampled(
    arms: Arms,
    arm: Arm,
    tasks: Sequence[dict[str, Any] | str],
    seed: int,
    items: int,
    advance: Callable[[int], None],
    limit: int | None = None,
    max_new_tokens: int | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval measures on each item of its tasks, by task."""
    left = items

    def read(rows: int) -> None:
        # An item is one row, or one row per choice where choices are longer than a token.
        nonlocal left
        advance(min(rows, left))
        left -= min(rows, left)

    with arms.use(arm):
        evaluated = lm_eval.simple_evaluate(
            model=Scorer(arms, read),
            tasks=list(tasks),
            task_manager=TaskManager(include_defaults=False),
            limit=limit,
            gen_kwargs=None if max_new_tokens is None else {"max_gen_toks": max_new_tokens},
            bootstrap_iters=0,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    advance(left)
    return dict(evaluated["samples"])


def count(suite: LoadedSuite, limit: int | None) -> int:
    """The items that one arm is asked."""
    return sum(len(items) if limit is None else min(limit, len(items)) for items in suite.choices.values())


def task_of(suite: LoadedSuite, kind: str) -> dict[str, Any]:
    """A kind as a task of lm-eval, which its command line takes as a YAML file of the same keys."""
    return {
        "task": f"{suite.name}_{kind}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(suite.files[kind])}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": suite.suite.version},
    }


def chance_of(suite: LoadedSuite) -> dict[str, float]:
    """What a guesser scores, by kind."""
    return {kind: sum(1 / len(item.choices) for item in items) / len(items) for kind, items in suite.choices.items()}


def _score(suite: LoadedSuite, kind: str, arm: Arm, sample: dict[str, Any]) -> ItemScore:
    doc = sample["doc"]
    likelihoods = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
    right = likelihoods.pop(doc["answer"])
    return ItemScore(
        suite=suite.name,
        kind=kind,
        item=doc["id"],
        session=doc["id"],
        arm=arm,
        correct=bool(sample["acc"]),
        margin=round(right - max(likelihoods), 4),
    )
