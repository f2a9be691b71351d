"""The base-logic suite through lm-eval: log-likelihood of each choice, one arm at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from services.verifier.evaluator.arms import Arms
from services.verifier.results import ItemScore
from shared.contracts.verify import Arm

SUITE = "base_logic"
NAME = "base-logic"
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


def count(suites: Path) -> int:
    """Count the items of the suite."""
    return sum(len(file.read_text("utf-8").splitlines()) for file in (suites / SUITE).glob("*.jsonl"))


Chances = dict[str, float]  # the score of a guesser, by kind


def measure(
    arms: Arms, arm: Arm, suites: Path, seed: int, advance: Callable[[int], None]
) -> tuple[list[ItemScore], Chances]:
    """Score every item in one arm; also returns the chance level by kind."""
    left = count(suites)

    def read(rows: int) -> None:
        # An item is one row, or one row per choice where choices are longer than a token.
        nonlocal left
        advance(min(rows, left))
        left -= min(rows, left)

    # Task files name their data relative to the directory of suites.
    with arms.use(arm), chdir(suites):
        evaluated = lm_eval.simple_evaluate(
            model=Scorer(arms, read),
            tasks=[SUITE],
            task_manager=TaskManager(include_path=str(suites), include_defaults=False),
            bootstrap_iters=0,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    advance(left)
    samples = {task.removeprefix(f"{SUITE}_"): rows for task, rows in evaluated["samples"].items()}
    scores = [_score(kind, arm, sample) for kind, rows in sorted(samples.items()) for sample in rows]
    return scores, {kind: 1 / len(rows[0]["doc"]["choices"]) for kind, rows in sorted(samples.items())}


def _score(kind: str, arm: Arm, sample: dict[str, Any]) -> ItemScore:
    doc = sample["doc"]
    likelihoods = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
    right = likelihoods.pop(doc["answer"])
    margin = round(right - max(likelihoods), 4)
    correct = bool(sample["acc"])
    return ItemScore(suite=NAME, kind=kind, item=doc["id"], session=doc["id"], arm=arm, correct=correct, margin=margin)
