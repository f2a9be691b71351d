"""A candidate takes a champion's place only where it is non-inferior to it on the target and on every blocking suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.verifier.results import HeldOut, Results
from services.verifier.verdict import judge
from shared.contracts.verify import Arm, Champion, ChampionEvidence, Policy, Rank, SuitePolicy
from tests.support.evaluations import INTACT, LEARNED, SUITE, items_of, results

POLICY = Policy(resamples=400)
CHAMPION = Champion(version="scribe@1", adapter="sha256:c")


def with_champion(right: Callable[[int, bool], bool], keeps: Callable[[int], bool] = lambda _: True) -> Results:
    """Results in which the champion passes held-out item n where `right(n, candidate)`, and keeps item n of the suite."""
    found = results(INTACT, LEARNED)
    rows = [_row(n, row, right) for n, row in enumerate(found.holdout)]
    asked = [score for score in INTACT if score.arm is Arm.CANDIDATE]
    champion = [
        score.model_copy(update={"arm": Arm.CHAMPION, "correct": score.correct and keeps(n)})
        for n, score in enumerate(asked)
    ]
    arms = {**found.arms, Arm.CHAMPION: CHAMPION.adapter}
    return found.model_copy(update={"arms": arms, "items": (*found.items, *champion), "holdout": tuple(rows)})


def _row(number: int, row: HeldOut, right: Callable[[int, bool], bool]) -> HeldOut:
    candidate = row.arms[Arm.CANDIDATE]
    passed = right(number, bool(candidate.passed))
    return row.model_copy(update={"arms": {**row.arms, Arm.CHAMPION: candidate.model_copy(update={"passed": passed})}})


def ranked(found: Results, champion: Champion | None = CHAMPION, policy: Policy = POLICY) -> ChampionEvidence:
    verdict = judge(found, policy, champion=champion)
    assert verdict.decision == "promote"
    return verdict.champion


def test_one_that_is_as_good_replaces_the_champion() -> None:
    found = ranked(with_champion(lambda n, candidate: candidate))
    assert (found.rank, found.replaced) == (Rank.NON_INFERIOR, True)
    assert found.losses.keys() == {"target", SUITE}


def test_one_that_lost_what_the_champion_can_is_inferior_and_says_by_how_much() -> None:
    found = ranked(with_champion(lambda n, candidate: True))
    assert (found.rank, found.replaced) == (Rank.INFERIOR, False)
    assert found.losses["target"].mean == 0.25
    assert "It is inferior to scribe@1: target loses +0.250 (at most +0." in found.reason


def test_one_whose_loss_is_open_does_not_replace_it() -> None:
    found = ranked(with_champion(lambda n, candidate: candidate != (n in (0, 4, 8, 12, 21, 25, 29, 33))))
    assert (found.rank, found.replaced) == (Rank.UNPROVEN, False)
    assert "It is not shown to be non-inferior to scribe@1: target loses" in found.reason


def test_a_blocking_suite_counts_against_the_champion_too() -> None:
    items = items_of("words", 600, lost=6, wrong=10)
    champion = [
        score.model_copy(update={"arm": Arm.CHAMPION, "correct": True}) for score in items if score.arm is Arm.BASE
    ]
    asked = with_champion(lambda n, candidate: candidate)
    found = results(items, asked.holdout).model_copy(update={"arms": asked.arms, "items": (*items, *champion)})
    assert ranked(found).rank is Rank.INFERIOR
    assert SUITE in ranked(found).reason and "target" not in ranked(found).reason
    assert ranked(found, policy=Policy(resamples=400, suites={SUITE: SuitePolicy(margin=0.2)})).replaced


def test_the_first_adapter_of_a_persona_needs_no_comparison() -> None:
    found = ranked(results(INTACT, LEARNED), champion=None)
    assert (found.rank, found.replaced, found.champion) == (Rank.FIRST, True, None)


def test_a_champion_that_does_not_serve_is_replaced_by_name() -> None:
    gone = CHAMPION.model_copy(update={"serves": False, "obstacle": "it was withdrawn: consent"})
    found = ranked(results(INTACT, LEARNED), champion=gone)
    assert found.replaced
    assert found.reason == "scribe@1 does not serve (it was withdrawn: consent): it is replaced without a comparison."


def test_a_champion_that_serves_and_cannot_be_asked_stays() -> None:
    other = CHAMPION.model_copy(update={"obstacle": "it was trained on another base"})
    found = ranked(results(INTACT, LEARNED), champion=other)
    assert (found.rank, found.replaced) == (Rank.NOT_COMPARED, False)
    assert found.reason == "It could not be compared with scribe@1: it was trained on another base."


def test_the_champions_own_adapter_stays_the_champion() -> None:
    assert ranked(results(INTACT, LEARNED), CHAMPION.model_copy(update={"adapter": "sha256:a"})).rank is Rank.SAME


@pytest.mark.parametrize("missing", ["arm", "holdout", "items"])
def test_a_champion_that_was_not_asked_all_is_no_comparison(missing: str) -> None:
    found = with_champion(lambda n, candidate: candidate)
    without: dict[str, dict[str, Any]] = {
        "arm": {"arms": {arm: digest for arm, digest in found.arms.items() if arm is not Arm.CHAMPION}},
        "holdout": {"holdout": results(INTACT, LEARNED).holdout},
        "items": {"items": found.items[:-1]},
    }
    with pytest.raises(ValueError, match=r"was not asked|was not scored|in one arm only"):
        judge(found.model_copy(update=without[missing]), POLICY, champion=CHAMPION)
