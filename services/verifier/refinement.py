"""The refinement of a banished adapter: a gentler recipe where a blocking suite lost something. Pure.

What learned too little and harmed nothing has none: more karma helps there, no recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from shared.contracts.intent import RecipeOverrides, Refinement, TrainingIntent
from shared.contracts.verify import AdapterBanished, SuiteState

if TYPE_CHECKING:
    from shared.config.recipe import Recipe
    from shared.contracts.message import Fact
    from shared.contracts.verify import SuiteEvidence, Verdict
    from shared.ritual.ledger import Ritual

REQUESTER = "refinement policy"
PRIORITY = 3  # behind what a person asks for
LEAST_RATE = 0.001  # of the recipe's: what overrides take at least
LEAST_REPLAY = 0.3


def suggest(verdict: Verdict, intent: TrainingIntent, recipe: Recipe, epochs: float) -> Refinement | None:
    """A gentler recipe than this one, which was trained for so many epochs; None where no gentler one would help.

    Half the rate and twice the replay; half the epochs too where a suite is broken.
    """
    lost = {name: suite for name, suite in verdict.suites.items() if _harmed(suite)}
    if verdict.decision == "promote" or not lost or (verdict.noise and verdict.noise.differs):
        return None
    earlier = intent.overrides or RecipeOverrides()
    changed: dict[str, float] = {
        "learning_rate_multiplier": max(LEAST_RATE, (earlier.learning_rate_multiplier or 1.0) / 2)
    }
    if any(suite.state is SuiteState.BROKEN for suite in lost.values()):
        changed["epochs"] = max(0.1, round(epochs / 2, 2))
    if recipe.loss == "sft":
        changed["replay"] = min(1.0, max(LEAST_REPLAY, 2 * recipe.replay))
    points = ", ".join(f"{name} lost {suite.drop * 100:.1f} points" for name, suite in lost.items())
    return Refinement(recipe=intent.recipe, overrides=earlier.model_copy(update=changed), why=points)


def refining_intent(ritual: Ritual, fact: Fact) -> TrainingIntent | None:
    """The intent of the ritual that refines a banished one, on the same karma; None where none is requested.

    Its id cannot be guessed: a ritual of the same id would take its place.
    """
    if not isinstance(fact, AdapterBanished) or not fact.suggested or not fact.suggested.requested:
        return None
    suggested = fact.suggested
    return ritual.intent.model_copy(
        update={
            "id": f"refine/{ritual.id}/{uuid4().hex}",
            "refines": ritual.id,
            "recipe": suggested.recipe,
            "overrides": suggested.overrides,
            "priority": min(PRIORITY, ritual.intent.priority),
            "deadline": None,
            "requested_by": REQUESTER,
            "why": suggested.why[:2000],
        }
    )


def _harmed(suite: SuiteEvidence) -> bool:
    """Whether a loss on it kept the adapter from a promotion; too few items say nothing about a recipe."""
    counts = suite.policy.blocking and suite.items >= suite.policy.min_items
    return counts and suite.state is not SuiteState.INTACT and suite.drop > 0
