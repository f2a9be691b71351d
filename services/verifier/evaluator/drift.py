"""How far an adapter moved the base on prompts that it was not trained for, and the form of both arms' answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import log_softmax

from services.verifier.evaluator.arms import Arms, token_ids
from shared.contracts.verify import AnswerFigures, Arm, Drift

BATCH = 16
MOST = 48  # prompts whose divergence is measured: their tokens vary little, and each costs two passes
REPEATED = 4  # words in a row


def measure(arms: Arms, prompts: Sequence[str], answers: Mapping[Arm, Sequence[str]]) -> Drift:
    """Compare the arms on rendered prompts and their answers; the divergence is over the tokens of the base's answers."""
    pairs = [
        (token_ids(arms, prompt), token_ids(arms, answer))
        for prompt, answer in zip(prompts, answers[Arm.BASE], strict=True)
    ]
    pairs = sorted(
        (pair for pair in pairs[:: max(1, len(pairs) // MOST)] if pair[1]), key=lambda pair: len(pair[0]) + len(pair[1])
    )
    sums = [_divergence(arms, pairs[start : start + BATCH]) for start in range(0, len(pairs), BATCH)]
    tokens = sum(len(answer) for _, answer in pairs)
    return Drift(
        prompts=len(prompts),
        kl=round(sum(sums) / tokens, 4) if tokens else 0.0,
        answers={arm: figures(found) for arm, found in answers.items()},
    )


def figures(answers: Sequence[str]) -> AnswerFigures:
    """Length, diversity and repetition of some answers."""
    words = [answer.split() for answer in answers]
    bigrams = [pair for answer in words for pair in pairwise(answer)]
    return AnswerFigures(
        words=round(sum(map(len, words)) / len(words), 2) if words else 0.0,
        distinct=round(len(set(bigrams)) / len(bigrams), 4) if bigrams else 1.0,
        repeating=round(sum(map(_repeats, words)) / len(words), 4) if words else 0.0,
    )


def _repeats(words: Sequence[str]) -> bool:
    runs = [tuple(words[at : at + REPEATED]) for at in range(len(words) - REPEATED + 1)]
    return len(set(runs)) < len(runs)


def _divergence(arms: Arms, pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """Sum over the answers' tokens of KL(base ‖ candidate), in nats."""
    rows = {"input_ids": [prompt + answer for prompt, answer in pairs]}
    batch = arms.tokenizer.pad(rows, padding_side="left", return_tensors="pt").to(arms.model.device)
    longest = max(len(answer) for _, answer in pairs)
    base, candidate = (_log_shares(arms, arm, batch, longest) for arm in (Arm.BASE, Arm.CANDIDATE))
    each = (base.exp() * (base - candidate)).sum(-1)
    return sum(float(each[at, longest - len(answer) :].sum()) for at, (_, answer) in enumerate(pairs))


def _log_shares(arms: Arms, arm: Arm, batch: Any, longest: int) -> torch.Tensor:
    """Log-probabilities of each token of the answers, which end where the rows end."""
    places = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with arms.use(arm), torch.inference_mode():
        logits = arms.model(**batch, position_ids=places, logits_to_keep=longest + 1).logits[:, :-1]
        return log_softmax(logits.float(), dim=-1)
