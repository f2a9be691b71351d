"""Compare an adapter with its base on held-out pairs: how much likelier the chosen answer is than the rejected one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from statistics import fmean
from typing import Any

import torch
from peft import PeftModel

from services.forge.trainer.preferences import Pair
from services.forge.trainer.render import IGNORED, Example
from shared.contracts.forge import PreferenceFigures


def compare(model: PeftModel, pairs: Sequence[Pair]) -> PreferenceFigures:
    """Measure every pair with the adapter and without it. One row at a time: its figure depends on no other row."""
    model.eval()
    (margin_before, nll_before), (margin_after, nll_after) = (
        _measure(model, pairs, base=base) for base in (True, False)
    )
    return PreferenceFigures(
        pairs=len(pairs),
        margin_before=margin_before,
        margin_after=margin_after,
        chosen_nll_before=nll_before,
        chosen_nll_after=nll_after,
    )


def _measure(model: PeftModel, pairs: Sequence[Pair], *, base: bool) -> tuple[float, float]:
    """The mean margin, and the negative log-likelihood of a token of the chosen answers."""
    with torch.inference_mode(), model.disable_adapter() if base else nullcontext():
        chosen = [log_likelihood(model, pair) for pair in pairs]
        rejected = [log_likelihood(model, pair.rejected) for pair in pairs]
    margin = fmean(one - other for one, other in zip(chosen, rejected, strict=True))
    return round(margin, 4), round(-sum(chosen) / sum(pair.trained for pair in pairs), 4)


def log_likelihood(model: Any, example: Example) -> float:
    """log p of the trained tokens, each after all before it; in nats."""
    device = next(model.parameters()).device
    tokens = torch.tensor([list(example.input_ids)], device=device)
    labels = torch.tensor(list(example.labels), device=device)[1:]
    trained = labels != IGNORED
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, :-1][trained]
    found = torch.log_softmax(logits.float(), dim=-1).gather(-1, labels[trained].unsqueeze(-1))
    return float(found.sum())
