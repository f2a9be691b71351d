"""The verdict: every row of its table, its statistics against published values, and what must hold for any results."""

from __future__ import annotations

import json
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier import statistics
from services.verifier.results import STYLE, HeldOut, Results
from services.verifier.verdict import DECISIONS, judge
from shared.contracts.verify import Arm, Policy, SuitePolicy, SuiteState, Target, Verdict
from tests.support.evaluations import INTACT, LEARNED, SUITE, held_out, items_of, results, scored

POLICY = Policy(resamples=400)


BROKEN = items_of("words", 600, lost=60)
UNPROVEN = items_of("words", 600, lost=20, won=8)
UNLEARNED = [held_out(n, False, False) for n in range(40)]
UNSURE = [held_out(n, False, n % 20 == 0) for n in range(40)]
LOGIC = {SuiteState.INTACT: INTACT, SuiteState.BROKEN: BROKEN, SuiteState.UNPROVEN: UNPROVEN}
TARGET = {Target.LEARNED: LEARNED, Target.UNLEARNED: UNLEARNED, Target.UNPROVEN: UNSURE}


def expected(logic: SuiteState, target: Target) -> str:
    """The table of the module's docstring, said another way."""
    if logic is SuiteState.BROKEN or target is Target.UNLEARNED:
        return "banish"
    return "promote" if logic is SuiteState.INTACT and target is Target.LEARNED else "inconclusive"


@pytest.mark.parametrize("logic", SuiteState)
@pytest.mark.parametrize("target", Target)
def test_every_row_of_the_table_is_decided_as_it_says(logic: SuiteState, target: Target) -> None:
    verdict = judge(results(LOGIC[logic], TARGET[target]), POLICY)
    assert (verdict.suites_state, verdict.target_state) == (logic, target)
    assert verdict.decision == DECISIONS[logic, target] == expected(logic, target)


def test_the_base_against_itself_is_banished_for_it_learned_nothing() -> None:
    verdict = judge(
        results(items_of("words", 600, wrong=30), [held_out(n, n % 2 == 0, n % 2 == 0) for n in range(40)]), POLICY
    )
    assert verdict.decision == "banish"
    assert verdict.suites[SUITE].drop == 0
    assert 0 < verdict.suites[SUITE].drop_high < 0.01


def test_too_few_items_of_base_logic_are_never_a_promotion() -> None:
    verdict = judge(results(items_of("words", 199), LEARNED), POLICY)
    assert verdict.decision == "inconclusive"
    assert "Too little to judge base-logic: 199" in verdict.reasons[1]


@pytest.mark.parametrize(
    "holdout",
    [
        [held_out(n, False, True, session=f"s{n}") for n in range(11)],
        [held_out(n, False, True, session=f"s{n % 4}") for n in range(40)],
    ],
    ids=["eleven items", "four sessions"],
)
def test_a_thin_holdout_is_never_a_promotion(holdout: list[HeldOut]) -> None:
    assert judge(results(INTACT, holdout), POLICY).decision == "inconclusive"


def test_one_session_alone_does_not_carry_a_gain() -> None:
    one = [held_out(n, False, n < 20, session=f"s{max(0, n - 19)}") for n in range(40)]
    many = [held_out(n, False, n < 20, session=f"s{n}") for n in range(40)]
    assert judge(results(INTACT, one), POLICY).decision == "inconclusive"
    assert judge(results(INTACT, many), POLICY).decision == "promote"


def test_a_shown_gain_below_the_least_worthwhile_one_is_not_promoted() -> None:
    small = [held_out(n, False, n % 25 == 0, session=f"s{n}") for n in range(400)]
    verdict = judge(results(INTACT, small), POLICY)
    assert verdict.target.gain.low is not None
    assert verdict.target.gain.low > 0
    assert verdict.decision != "promote"


def test_a_holdout_without_rules_is_judged_by_its_likelihood() -> None:
    verdict = judge(results(INTACT, [held_out(n, None, None, nll_gain=0.5 + n % 3 / 10) for n in range(40)]), POLICY)
    assert (verdict.target.metric, verdict.decision) == ("nll", "promote")
    assert judge(results(INTACT, [held_out(n, None, None) for n in range(40)]), POLICY).decision == "banish"


def test_a_kind_on_which_the_base_only_guesses_is_left_out_and_said() -> None:
    guessed = items_of("riddles", 100, lost=50, wrong=50)
    verdict = judge(results([*INTACT, *guessed], LEARNED), POLICY)
    assert verdict.suites[SUITE].items == 600
    assert verdict.decision == "promote"
    assert any("riddles" in reason for reason in verdict.reasons)


GENERAL = items_of("facts", 150, lost=4, won=3, wrong=40, suite="general")
FREE = items_of(STYLE, 150, suite="rigidity")
BOTH = Policy(
    suites={"general": SuitePolicy(margin=0.1, min_items=100), "rigidity": SuitePolicy(margin=0.05, min_items=40)},
    resamples=400,
)


def test_a_persona_that_keeps_to_itself_is_promoted_by_all_suites() -> None:
    verdict = judge(results([*INTACT, *GENERAL, *FREE], LEARNED), BOTH)
    assert verdict.decision == "promote"
    assert [suite.state for suite in verdict.suites.values()] == [SuiteState.INTACT] * 3
    assert len(verdict.reasons) == 4


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_rigid_persona_is_banished_by_its_style_alone(share: float) -> None:
    bleeding = items_of(STYLE, 150, lost=int(150 * share), suite="rigidity")
    verdict = judge(results([*INTACT, *GENERAL, *bleeding], LEARNED), BOTH)
    assert verdict.decision == "banish"
    assert verdict.suites["base-logic"].state is verdict.suites["general"].state is SuiteState.INTACT
    assert any(reason.startswith("Suite rigidity dropped by at least 0.05") for reason in verdict.reasons)


def test_a_persona_without_a_form_of_its_own_is_a_warning() -> None:
    found = results([*INTACT, *GENERAL, *FREE], LEARNED)
    verdict = judge(found, BOTH)
    assert verdict.decision == "promote"
    assert any("Style bleed was not looked for" in warning for warning in verdict.warnings)
    assert not [text for text in judge(found.model_copy(update={"style_rules": 2}), BOTH).warnings if "bleed" in text]


def test_a_suite_that_only_warns_keeps_nothing_from_promotion() -> None:
    lost = items_of("facts", 150, lost=90, suite="general")
    warns = Policy(suites={"general": SuitePolicy(blocking=False)}, resamples=400)
    verdict = judge(results([*INTACT, *lost], LEARNED), warns)
    assert verdict.decision == "promote"
    assert [warning for warning in verdict.warnings if "general" in warning]
    assert not [reason for reason in verdict.reasons if "general" in reason]
    none = Policy(suites={SUITE: SuitePolicy(blocking=False)}, resamples=400)
    assert judge(results(INTACT, LEARNED), none).decision == "inconclusive", "nothing is known to be kept"


def test_a_suite_at_its_ceiling_is_a_warning() -> None:
    assert (
        judge(results(items_of("words", 600, lost=6), LEARNED), POLICY)
        .warnings[0]
        .startswith("Suite base-logic is too easy")
    )
    assert judge(results(items_of("words", 600, wrong=60), LEARNED), POLICY).warnings == ()


def test_a_suite_that_was_not_asked_or_not_wholly_is_no_evidence() -> None:
    whole = results([*INTACT, *GENERAL], LEARNED)
    with pytest.raises(ValueError, match="suite rigidity was not asked"):
        judge(whole, BOTH)
    with pytest.raises(ValueError, match="149 items of suite general were scored, it has 150"):
        judge(whole.model_copy(update={"items": whole.items[:-2]}), POLICY)


def test_the_verdict_names_the_items_that_flipped() -> None:
    logic = judge(results(items_of("words", 600, lost=2, won=1), LEARNED), POLICY).suites[SUITE]
    assert (logic.lost, logic.won) == (("words-0", "words-1"), ("words-2",))


def test_arms_that_answered_other_items_are_no_evidence() -> None:
    with pytest.raises(ValueError, match="one arm only"):
        judge(results(INTACT[:-1], LEARNED), POLICY)
    with pytest.raises(ValueError, match="twice"):
        judge(results([*INTACT, INTACT[0]], LEARNED), POLICY)
    with pytest.raises(ValueError, match="h999"):
        judge(results(INTACT, [*LEARNED, held_out(999, True, None)]), POLICY)


def test_a_verdict_survives_json() -> None:
    verdict = judge(results(INTACT, LEARNED), POLICY)
    assert Verdict.model_validate(json.loads(verdict.model_dump_json())) == verdict


def test_tango_interval_has_the_published_limits() -> None:
    """Fagerland, Lydersen and Laake 2014 (Statist. Med. 33:2850), airway data: 1 and 7 discordant of 21."""
    low, high = statistics.paired_drop(1, 7, 21, 0.975)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


def test_tango_interval_mirrors_when_the_arms_change_places() -> None:
    for lost, won in ((0, 0), (3, 0), (5, 2), (20, 20)):
        low, high = statistics.paired_drop(lost, won, 50, 0.95)
        assert statistics.paired_drop(won, lost, 50, 0.95) == pytest.approx((-high, -low), abs=1e-9)


def test_non_inferiority_lets_a_true_drop_of_the_margin_through_in_about_one_case_of_twenty() -> None:
    """Exact, over all outcomes of 600 pairs of which 6 % are discordant and 3 % are truly lost."""
    n, lost_share, won_share = 600, 0.045, 0.015
    passed = 0.0
    for lost in range(70):
        for won in range(40):
            if statistics.paired_drop(lost, won, n, 0.95)[1] < 0.03:
                both = comb(n, lost) * comb(n - lost, won)
                passed += both * lost_share**lost * won_share**won * (1 - lost_share - won_share) ** (n - lost - won)
    assert 0.03 < passed < 0.06


def test_wilson_interval_has_the_textbook_limits() -> None:
    """Newcombe 1998 (Statist. Med. 17:857): 81 of 263."""
    low, high = statistics.wilson(81, 263, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_t_quantiles_match_the_tables() -> None:
    for degrees, table in ((4, 2.132), (9, 1.833), (30, 1.697)):
        assert statistics.t_quantile(0.95, degrees) == pytest.approx(table, abs=0.002)


OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=30, max_size=60)
LOOSE = Policy(suites={SUITE: SuitePolicy(min_items=20, margin=0.2)}, resamples=200, min_gain=0.01)


def drawn(logic: list[tuple[bool, bool]], target: list[tuple[bool, bool]]) -> Results:
    items = [
        scored("words", f"i{n}", arm, right)
        for n, pair in enumerate(logic)
        for arm, right in zip((Arm.BASE, Arm.CANDIDATE), pair, strict=True)
    ]
    # A score of 0 for guessing counts the kind whatever the base was drawn to be.
    return results(items, [held_out(n, base, candidate) for n, (base, candidate) in enumerate(target)], chance=0.0)


def promotable(draw: st.DrawFn) -> tuple[list[tuple[bool, bool]], list[tuple[bool, bool]]]:
    """Results near the border of a promotion, where a single item decides."""
    logic = [(True, True)] * draw(st.integers(30, 60)) + [(True, False)] * draw(st.integers(0, 6))
    target = [(False, True)] * draw(st.integers(2, 30)) + [(False, False)] * draw(st.integers(10, 30))
    return logic + [(False, True)] * draw(st.integers(0, 4)), target + [(True, False)] * draw(st.integers(0, 4))


NEAR = st.composite(promotable)()


@settings(max_examples=150, deadline=None)
@given(NEAR, st.booleans(), st.integers(0, 200))
def test_a_worse_candidate_is_never_promoted_where_a_better_one_was_not(
    both: tuple[list[tuple[bool, bool]], list[tuple[bool, bool]]], in_logic: bool, at: int
) -> None:
    logic, target = both
    before = judge(drawn(logic, target), LOOSE).decision
    worse = list(logic if in_logic else target)
    worse[at % len(worse)] = (worse[at % len(worse)][0], False)
    after = judge(drawn(worse, target) if in_logic else drawn(logic, worse), LOOSE).decision
    assert after != "promote" or before == "promote"


@settings(max_examples=50, deadline=None)
@given(OUTCOMES, OUTCOMES, st.randoms(use_true_random=False))
def test_the_order_of_results_changes_nothing(
    logic: list[tuple[bool, bool]], target: list[tuple[bool, bool]], chance: object
) -> None:
    measured = drawn(logic, target)
    items, holdout = list(measured.items), list(measured.holdout)
    chance.shuffle(items)  # type: ignore[attr-defined]
    chance.shuffle(holdout)  # type: ignore[attr-defined]
    shuffled = measured.model_copy(update={"items": tuple(items), "holdout": tuple(holdout)})
    assert judge(shuffled, LOOSE) == judge(measured, LOOSE)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=20, max_size=60), st.lists(st.booleans(), min_size=12, max_size=60))
def test_identical_arms_are_never_promoted(logic: list[bool], target: list[bool]) -> None:
    same = drawn([(right, right) for right in logic], [(right, right) for right in target])
    assert judge(same, LOOSE).decision != "promote"


@settings(max_examples=40, deadline=None)
@given(OUTCOMES, st.integers(0, 200))
def test_a_worse_answer_never_raises_the_bounds_of_the_gain(target: list[tuple[bool, bool]], at: int) -> None:
    def bounds(rows: list[tuple[bool, bool]]) -> tuple[float, float]:
        gains: dict[str, list[float]] = {}
        for n, (base, candidate) in enumerate(rows):
            gains.setdefault(f"s{n // 3}", []).append(float(candidate) - float(base))
        return statistics.clustered_gain(gains, 0.95, 200, 0)

    worse = list(target)
    worse[at % len(worse)] = (worse[at % len(worse)][0], False)
    assert bounds(worse)[0] <= bounds(target)[0]
    assert bounds(worse)[1] <= bounds(target)[1]
