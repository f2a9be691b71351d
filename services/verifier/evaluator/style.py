"""The persona's form on answers that have nothing to do with it: a rigid persona bleeds into everything."""

from __future__ import annotations

from collections.abc import Sequence

from services.verifier.evaluator.holdout import HoldoutItem
from services.verifier.results import STYLE, ItemScore
from shared.contracts.checks import Check, Checks, UndecidedError, passes

USUAL = 0.5  # share of the base's own answers that follow the rules, above which they are nothing that a persona brings


def follows(checks: Checks, answer: str) -> bool:
    """Whether an answer passes the checks; one that patterns do not decide in time does not."""
    try:
        return passes(checks, answer)
    except UndecidedError:
        return False


def persona_rules(holdout: Sequence[HoldoutItem]) -> Checks:
    """The checks that most of the items with checks share: the persona's form, without what each item is about."""
    ruled = [item for item in holdout if item.checks]
    every: list[Check] = list(dict.fromkeys(check for item in ruled for check in item.checks))
    return tuple(check for check in every if 2 * sum(check in item.checks for item in ruled) > len(ruled))


def own_form(rules: Checks, base: Sequence[ItemScore]) -> Checks:
    """The rules where they tell a persona's form from the base's own answers to general prompts, else none."""
    usual = sum(follows(rules, score.answer or "") for score in base) > USUAL * len(base) if rules else True
    return () if usual else rules


def score_style(suite: str, rules: Checks, answers: Sequence[ItemScore]) -> list[ItemScore]:
    """Whether answers to general prompts are free of the persona's form: right is one that does not follow its rules."""
    same = {"suite": suite, "kind": STYLE, "answer": None}
    return [
        score.model_copy(update={**same, "correct": not (rules and follows(rules, score.answer or ""))})
        for score in answers
    ]
