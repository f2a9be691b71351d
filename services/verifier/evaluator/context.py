"""The sealed holdout under its own system prompts: what base and candidate answer with them, and the tokens of leaving them out."""

from __future__ import annotations

from collections.abc import Sequence

from services.verifier.evaluator.arms import BATCH, Arms, generated, reference, token_ids
from services.verifier.evaluator.holdout import HoldoutItem, judged, rendered_full_prompt, rendered_prompt
from services.verifier.evaluator.report import Report
from services.verifier.results import HeldOut, Prompted
from shared.contracts.checks import UndecidedError
from shared.contracts.verify import Arm


def count(items: Sequence[HoldoutItem]) -> int:
    """The answers that are generated: two for each item that rules judge."""
    return 2 * sum(item.has_rules for item in items)


def add(
    arms: Arms, rows: Sequence[HeldOut], items: Sequence[HoldoutItem], max_tokens: int, report: Report
) -> tuple[HeldOut, ...]:
    """The rows with what is measured under the system prompts of `items`."""
    ruled = [item for item in items if item.has_rules]
    prompts = [rendered_full_prompt(arms.tokenizer, item) for item in ruled]
    with report.span("context"):
        base, candidate = (
            generated(arms, arm, prompts, max_tokens, BATCH, report.advance) for arm in (Arm.BASE, Arm.CANDIDATE)
        )
    prompted = {
        item.id: Prompted(base=_passes(arms, item, base[at]), candidate=_passes(arms, item, candidate[at]))
        for at, item in enumerate(ruled)
    }
    saved = {item.id: _saved(arms, item) for item in items}
    return tuple(
        row.model_copy(update={"prompted": prompted.get(row.id), "tokens_saved": saved.get(row.id)}) for row in rows
    )


def _passes(arms: Arms, item: HoldoutItem, answer: str) -> bool:
    try:
        return bool(judged(item, answer, reference(arms, item)))
    except UndecidedError:
        return False


def _saved(arms: Arms, item: HoldoutItem) -> int:
    """Tokens of the request with the system prompt, less those without; the template may have a default prompt in its place."""
    whole, short = rendered_full_prompt(arms.tokenizer, item), rendered_prompt(arms.tokenizer, item)
    return len(token_ids(arms, whole)) - len(token_ids(arms, short))
