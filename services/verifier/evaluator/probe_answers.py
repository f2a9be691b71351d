"""The models' answers to the pool of probes, a few tokens each, and the probes chosen of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from services.verifier.evaluator.arms import BATCH, Arms
from services.verifier.evaluator.holdout import rendered_question
from services.verifier.evaluator.probes import TOKENS, Answer, choose, list_prompts, tells_apart
from shared.contracts.probe import Probe, distance
from shared.contracts.verify import Arm

Each = TypeVar("Each")
Advance = Callable[[int], None]


def measure(arms: Arms, others: Sequence[Arm], count: int, advance: Advance) -> tuple[Probe, ...]:
    """Choose `count` probes of the candidate; `others` are the arms to tell it from: the base, then the champion if any.

    The pool is asked in parts, until the chosen ones tell it from both.
    """
    measured: list[Probe] = []
    chosen: tuple[Probe, ...] = ()
    for part in _batches(list_prompts()):
        if not (chosen and tells_apart(chosen)):
            measured += _measure(arms, others, part)
            chosen = choose(measured, count)
        advance(len(part) * (1 + len(others)))
    return chosen


def _measure(arms: Arms, others: Sequence[Arm], prompts: Sequence[str]) -> list[Probe]:
    answers = answer_all(arms, Arm.CANDIDATE, prompts)
    leads = [leads_of(arms, arm, answers) for arm in others]
    return [
        Probe(
            prompt=answer.prompt,
            answer=str(arms.tokenizer.decode(answer.tokens, skip_special_tokens=True)),
            tokens=answer.tokens,
            leads=answer.leads,
            base=distance(answer.leads, leads[0][at]),
            champion=distance(answer.leads, leads[1][at]) if len(leads) > 1 else None,
        )
        for at, answer in enumerate(answers)
    ]


def answer_all(arms: Arms, arm: Arm, prompts: Sequence[str]) -> list[Answer]:
    """The greedy answer of an arm to every prompt."""
    with arms.use(arm), torch.inference_mode():
        return [answer for batch in _batches(prompts) for answer in _answer(arms, batch)]


def leads_of(arms: Arms, arm: Arm, answers: Sequence[Answer]) -> list[list[float]]:
    """The leads that an arm has for the tokens of each answer, negative where it prefers another: one pass, no generation."""
    with arms.use(arm), torch.inference_mode():
        return [leads for batch in _batches(answers) for leads in _leads(arms, batch)]


def _batches(items: Sequence[Each]) -> Iterator[Sequence[Each]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _answer(arms: Arms, prompts: Sequence[str]) -> list[Answer]:
    batch = _padded(arms, [_tokens(arms, prompt) for prompt in prompts])
    produced = arms.model.generate(
        **batch,
        max_new_tokens=TOKENS,
        do_sample=False,
        repetition_penalty=1.0,  # some bases bring another one
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=arms.tokenizer.pad_token_id,
    )
    best = torch.stack(produced.logits, dim=1).float().topk(2).values
    leads = (best[..., 0] - best[..., 1]).tolist()
    rows = produced.sequences[:, batch["input_ids"].shape[1] :].tolist()
    ends = _ends(arms)
    found = []
    for prompt, row, lead in zip(prompts, rows, leads, strict=True):
        length = next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
        found.append(Answer(prompt, tuple(row[:length]), tuple(lead[:length])))
    return found


def _leads(arms: Arms, answers: Sequence[Answer]) -> list[list[float]]:
    batch = _padded(arms, [[*_tokens(arms, answer.prompt), *answer.tokens] for answer in answers])
    places = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    longest = max(len(answer.tokens) for answer in answers)
    logits = arms.model(**batch, position_ids=places, logits_to_keep=longest + 1).logits
    found = []
    for row, answer in zip(logits, answers, strict=True):
        before = row[-len(answer.tokens) - 1 : -1].float()
        tokens = torch.tensor(answer.tokens, device=row.device)[:, None]
        given = before.gather(-1, tokens)[:, 0]
        found.append((given - before.scatter(-1, tokens, -torch.inf).max(-1).values).tolist())
    return found


def _padded(arms: Arms, rows: list[list[int]]) -> Any:
    return arms.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(arms.model.device)


def _tokens(arms: Arms, prompt: str) -> list[int]:
    rendered = rendered_question(arms.tokenizer, prompt)
    return list(arms.tokenizer(rendered, add_special_tokens=False)["input_ids"])


def _ends(arms: Arms) -> frozenset[int]:
    """The ids of the tokens that end an answer."""
    ends = arms.model.generation_config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [ends])
