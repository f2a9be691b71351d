"""The mask audit: counts what is trained before the first step, so that no empty mask or cut answer is trained silently."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.forge.trainer.render import IGNORED, ChatTokenizer, Example
from shared.jobs.result_writer import InputError

REFUSED_SHARE = 0.1
SKIPPED_SHARE = 0.5
PREVIEWS = 3


@dataclass(frozen=True)
class Audit:
    """Counts of a rendered split, of both answers of a pair. `prompts` counts the trained rows by the form of their prompt.

    `skipped` (the base's template cannot render them) and `refused` (no trained token, too long, or trained otherwise than
    served) map ids to reasons; `previews` are examples of the trained text.
    """

    rows: int
    examples: int
    tokens: int
    trained_tokens: int
    least_trained: int
    longest: int
    prompts: dict[str, int]
    skipped: dict[str, str]
    refused: dict[str, str]
    previews: tuple[str, ...]


def length_limit(wanted: str | int, lengths: Sequence[int], context: int) -> int:
    """The longest row to train, in tokens: `auto` is the base's context, `p99` the nearest-rank percentile of `lengths`."""
    if wanted == "p99" and lengths:
        return min(sorted(lengths)[math.ceil(0.99 * len(lengths)) - 1], context)
    return min(wanted, context) if isinstance(wanted, int) else context


def audit(
    tokenizer: ChatTokenizer,
    examples: Sequence[Example],
    skipped: Mapping[str, str],
    unfit: Mapping[str, str],
    max_length: int,
) -> tuple[list[Example], Audit]:
    """Select the examples fit to train, with their audit; a row is left out whole when one of its examples is unfit.

    `unfit` are rows that could not be rendered as served. Raises InputError when more than a tenth of the rows is refused:
    then the data or the template is wrong, not a few rows.
    """
    refused = {**unfit, **{example.id: reason for example in examples if (reason := _first_fault(example, max_length))}}
    rendered = len({example.id for example in examples}) + len(unfit)
    if len(refused) > REFUSED_SHARE * rendered:
        raise InputError(f"{len(refused)} of {rendered} rows cannot be trained: {_shown(refused)}")
    fit = [example for example in examples if example.id not in refused]
    sides = [side for example in fit for side in example.sides]
    forms = {example.id: example.prompt for example in fit if example.prompt}
    return fit, Audit(
        rows=rendered - len(refused),
        examples=len(sides),
        tokens=sum(len(side.input_ids) for side in sides),
        trained_tokens=sum(side.trained for side in sides),
        least_trained=min((side.trained for side in sides), default=0),
        longest=max((len(side.input_ids) for side in sides), default=0),
        prompts=dict(sorted(Counter(forms.values()).items())),
        skipped=dict(skipped),
        refused=refused,
        previews=tuple(preview(tokenizer, side) for side in sides[:PREVIEWS]),
    )


def expect_enough(split: Audit) -> None:
    """Raise InputError when the base's template cannot render more than half of the rows."""
    seen = split.rows + len(split.skipped) + len(split.refused)
    if len(split.skipped) > SKIPPED_SHARE * seen:
        raise InputError(
            f"{len(split.skipped)} of {seen} rows cannot be rendered for this base, which needs another chat template "
            f"or another base: {_shown(split.skipped)}"
        )


def _first_fault(example: Example, max_length: int) -> str | None:
    """The first fault of its sides."""
    return next(filter(None, (fault(side, max_length) for side in example.sides)), None)


def fault(example: Example, max_length: int) -> str | None:
    """Why an example must not be trained; None where it may. The end-of-turn token alone teaches nothing."""
    if example.trained < 2:
        return "the loss mask is empty"
    if example.longest > max_length:
        return f"more than {max_length} tokens: it would be cut"
    return None


def preview(tokenizer: ChatTokenizer, example: Example) -> str:
    """The text whose tokens are trained."""
    return tokenizer.decode([label for label in example.labels if label != IGNORED])


def _shown(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{row}: {reason}" for row, reason in list(left_out.items())[:PREVIEWS])
