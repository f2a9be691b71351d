"""What is suggested for a banished adapter, and the intent of the ritual that refines it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.verifier.refinement import REQUESTER, refining_intent, suggest
from services.verifier.verdict import judge
from shared.config.recipe import list_recipes, load_recipe, with_overrides
from shared.contracts.intent import RecipeOverrides, Refinement, TrainingIntent
from shared.contracts.ritual import State
from shared.contracts.verify import AdapterBanished, AdapterVerified, Noise, Policy, SuitePolicy, Verdict
from shared.ritual.ledger import Ritual
from tests.support.evaluations import INTACT, LEARNED, SUITE, held_out, items_of, results

POLICY = Policy(resamples=400)
BROKEN = judge(results(items_of("words", 600, lost=60), LEARNED), POLICY)
UNPROVEN = judge(results(items_of("words", 600, lost=20, won=8), LEARNED), POLICY)
UNLEARNED = judge(results(INTACT, [held_out(n, False, False) for n in range(40)]), POLICY)
INTENT = TrainingIntent(persona="scribe", kinds=("chat",), deadline=datetime.now(UTC), priority=7)
NO_EPOCHS = RecipeOverrides(learning_rate_multiplier=0.5, replay=0.3)
RITUAL = UUID(int=1)


def suggested(verdict: Verdict, intent: TrainingIntent = INTENT, epochs: float = 2.0) -> Refinement | None:
    return suggest(verdict, intent, with_overrides(load_recipe(intent.recipe), intent.overrides), epochs)


def test_a_broken_suite_takes_half_the_epochs_that_were_trained_half_the_rate_and_twice_the_replay() -> None:
    found = suggested(BROKEN, epochs=1.5)
    assert found == Refinement(
        recipe="default",
        overrides=RecipeOverrides(epochs=0.75, learning_rate_multiplier=0.5, replay=0.3),
        why="base-logic lost 10.0 points",
    )
    assert found.text == (
        "recipe default, epochs 0.75, learning_rate_multiplier 0.5, replay 0.3 (base-logic lost 10.0 points)"
    )


def test_a_loss_that_is_not_shown_to_be_small_takes_the_same_epochs() -> None:
    found = suggested(UNPROVEN)
    assert found and found.overrides == NO_EPOCHS


def test_the_next_one_is_gentler_still() -> None:
    once = suggested(BROKEN)
    assert once
    twice = suggested(BROKEN, INTENT.model_copy(update={"overrides": once.overrides}), epochs=1.0)
    assert twice and twice.overrides == RecipeOverrides(epochs=0.5, learning_rate_multiplier=0.25, replay=0.6)


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_shipped_recipe_bears_what_is_suggested_however_often(recipe: str) -> None:
    intent, epochs = TrainingIntent(persona="scribe", recipe=recipe), 0.5
    for _ in range(12):
        found = suggested(BROKEN, intent, epochs)
        assert found and found.overrides.epochs
        intent, epochs = intent.model_copy(update={"overrides": found.overrides}), found.overrides.epochs
        with_overrides(load_recipe(recipe), found.overrides)
        TrainingIntent.model_validate_json(intent.model_dump_json())


@pytest.mark.parametrize(
    "verdict",
    [
        judge(results(INTACT, LEARNED), POLICY),
        UNLEARNED,
        judge(results(items_of("words", 100, lost=20), LEARNED), POLICY),
        BROKEN.model_copy(update={"noise": Noise(items=40, lost=9, won=0, p_value=0.004, differs=True)}),
        judge(
            results(items_of("words", 600, lost=60), LEARNED),
            POLICY.model_copy(update={"suites": {SUITE: SuitePolicy(blocking=False)}}),
        ),
    ],
    ids=["promoted", "learned too little", "too few items", "the base differs from itself", "only warned about"],
)
def test_there_is_none_where_no_gentler_recipe_would_help(verdict: Verdict) -> None:
    assert suggested(verdict) is None


def ritual(intent: TrainingIntent = INTENT) -> Ritual:
    other: dict[str, Any] = dict.fromkeys(Ritual.__dataclass_fields__)
    return Ritual(
        **other | {"id": RITUAL, "intent_body": intent.model_dump(mode="json"), "attempt": 1, "state": State.FORGED}
    )


def banished(requested: bool) -> AdapterBanished:
    suggestion = Refinement(recipe="default", overrides=NO_EPOCHS, why="lost", requested=requested)
    return AdapterBanished(**_judged("banish"), suggested=suggestion)


def _judged(decision: str) -> dict[str, Any]:
    return {
        "ritual": RITUAL, "persona": "scribe", "adapter": "sha256:a", "decision": decision, "reasons": (),
        "verdict": BROKEN, "results": "/r", "evidence": "/e", "evidence_digest": "sha256:e",
    }  # fmt: skip


def test_the_intent_asks_for_the_same_karma_behind_what_people_ask_for() -> None:
    intent = refining_intent(ritual(), banished(requested=True))
    assert intent and intent.id and intent.id.startswith(f"refine/{RITUAL}/")
    assert intent == INTENT.model_copy(
        update={
            "id": intent.id, "refines": RITUAL, "overrides": NO_EPOCHS, "priority": 3, "deadline": None,
            "requested_by": REQUESTER, "why": "lost",
        }
    )  # fmt: skip
    assert TrainingIntent.model_validate_json(intent.model_dump_json()) == intent
    again = refining_intent(ritual(), banished(requested=True))
    assert again and again.id != intent.id, "its id cannot be guessed"


def test_no_intent_follows_what_is_not_requested() -> None:
    assert refining_intent(ritual(), banished(requested=False)) is None
    assert refining_intent(ritual(), banished(requested=True).model_copy(update={"suggested": None})) is None
    assert refining_intent(ritual(), AdapterVerified(**_judged("promote"))) is None
