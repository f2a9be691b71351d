"""The sealed holdout and the probes: what an arm thinks of a reference answer, and what it answers itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from services.verifier.evaluator.arms import Arms
from services.verifier.evaluator.holdout import HoldoutItem, rendered_answer, rendered_prompt
from services.verifier.results import Arm

BATCH = 40


def nlls(arms: Arms, arm: Arm, items: Sequence[HoldoutItem]) -> list[float]:
    """Mean negative log-likelihood of each reference answer with its end mark, in nats a token."""
    with arms.use(arm), torch.inference_mode():
        return [_nll(arms, item) for item in items]


def generated(
    arms: Arms, arm: Arm, prompts: Sequence[str], max_tokens: int, batch: int, advance: Callable[[int], None]
) -> list[str]:
    """The greedy answer to each rendered prompt, in their order."""
    # Neighbours in length share a batch: little padding, and no long prompt holds back all.
    order = sorted(range(len(prompts)), key=lambda at: (len(prompts[at]), at))
    answers = [""] * len(prompts)
    with arms.use(arm), torch.inference_mode():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            for at, answer in zip(chosen, _generate(arms, [prompts[at] for at in chosen], max_tokens), strict=True):
                answers[at] = answer
            advance(len(chosen))
    return answers


def _nll(arms: Arms, item: HoldoutItem) -> float:
    before = _tokens(arms, rendered_prompt(arms.tokenizer, item))
    answer = _tokens(arms, rendered_answer(arms.tokenizer, item))
    # A conversation longer than the context keeps its end, where the answer is.
    ids = torch.tensor([(before + answer)[-arms.model.config.max_position_embeddings :]], device=arms.model.device)
    logits = arms.model(input_ids=ids, logits_to_keep=len(answer) + 1).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -len(answer) :]))


def _tokens(arms: Arms, text: str) -> list[int]:
    return list(arms.tokenizer(text, add_special_tokens=False)["input_ids"])


def _generate(arms: Arms, prompts: Sequence[str], max_tokens: int) -> list[str]:
    limit = arms.model.config.max_position_embeddings - max_tokens
    rows = [_tokens(arms, prompt)[-limit:] for prompt in prompts]
    batch = arms.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(arms.model.device)
    produced = arms.model.generate(
        **batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=arms.tokenizer.pad_token_id
    )
    return list(arms.tokenizer.batch_decode(produced[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))
