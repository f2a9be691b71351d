"""The mask audit: what is trained, counted before a step is made. An empty mask or a cut answer is never trained silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.forge.trainer.failure import BadInput
from services.forge.trainer.render import IGNORED, ChatTokenizer, Example

REFUSED_SHARE = 0.1
PREVIEWS = 3


@dataclass(frozen=True)
class Audit:
    """The numbers of a rendered split. `refused` holds ids with the reason; `previews` show what is trained."""

    examples: int
    tokens: int
    trained_tokens: int
    least_trained: int
    longest: int
    kept_prompt: int
    refused: dict[str, str]
    previews: tuple[str, ...]


def audit(tokenizer: ChatTokenizer, examples: Sequence[Example], max_length: int) -> tuple[list[Example], Audit]:
    """The examples fit to train and the audit of them.

    Raises BadInput when none is left, or when more than a tenth was refused: then the data is at fault, not a few rows.
    """
    refused = {example.id: reason for example in examples if (reason := fault(example, max_length))}
    fit = [example for example in examples if example.id not in refused]
    if not fit or len(refused) > REFUSED_SHARE * len(examples):
        shown = "; ".join(f"{row}: {reason}" for row, reason in list(refused.items())[:PREVIEWS])
        raise BadInput(f"{len(refused)} of {len(examples)} rows cannot be trained: {shown}")
    return fit, Audit(
        examples=len(fit),
        tokens=sum(len(example.input_ids) for example in fit),
        trained_tokens=sum(example.trained for example in fit),
        least_trained=min(example.trained for example in fit),
        longest=max(len(example.input_ids) for example in fit),
        kept_prompt=sum(example.kept_prompt for example in fit),
        refused=refused,
        previews=tuple(preview(tokenizer, example) for example in fit[:PREVIEWS]),
    )


def fault(example: Example, max_length: int) -> str | None:
    """Why an example must not be trained; None when it may. The end-of-turn token alone teaches nothing."""
    if example.trained < 2:
        return "the loss mask is empty"
    if len(example.input_ids) > max_length:
        return f"{len(example.input_ids)} tokens, more than {max_length}: it would be cut"
    return None


def preview(tokenizer: ChatTokenizer, example: Example) -> str:
    """The text whose tokens are trained."""
    return tokenizer.decode([label for label in example.labels if label != IGNORED])
