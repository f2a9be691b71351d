"""Context recovery: the candidate without its system prompt against the base with it, and the tokens that a request saves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.verifier.job import HOLDOUT
from services.verifier.results import HeldOut
from services.verifier.sealed import Record, expect_whole, read_records, seal
from services.verifier.verdict import judge
from shared.contracts.verify import ContextEvidence, ContextPolicy, Look, Policy, SuitePolicy, SuiteState, Verdict
from tests.support.evaluations import INTACT, SUITE, held_out, prompted, results

POLICY = Policy(resamples=400)
BLOCKING = Policy(resamples=400, context=ContextPolicy(blocking=True))


def learned(right: int, base: int, n: int = 40) -> list[HeldOut]:
    """The candidate is right on the first `right` items, the base with its prompt on the first `base`, without it on none."""
    rows = [held_out(number, False, number < right) for number in range(n)]
    return [prompted(row, base=number < base, saved=60 + number % 2) for number, row in enumerate(rows)]


def judged(
    rows: Sequence[HeldOut], policy: Policy = POLICY, look: Look | None = None
) -> tuple[Verdict, ContextEvidence]:
    verdict = judge(results(INTACT, rows), policy, look)
    assert verdict.context
    return verdict, verdict.context


def test_four_arms_are_compared_and_the_verdict_says_so_in_numbers() -> None:
    verdict, context = judged(learned(right=38, base=20))
    assert (context.state, context.items, context.sessions) == (SuiteState.INTACT, 40, 20)
    shares = context.base, context.base_prompted, context.candidate, context.candidate_prompted
    assert [arm.share for arm in shares] == [0, 0.5, 0.95, 1]
    assert context.loss.mean == pytest.approx(-0.45) and context.loss.high is not None and context.loss.high < 0
    assert (context.tokens_saved.mean, context.tokens_saved.low, context.tokens_saved.high) == (60.5, 60.5, 60.5)
    [said] = [reason for reason in verdict.reasons if "prompt" in reason]
    assert said.startswith(
        "The candidate without its system prompt is non-inferior to the base with the prompt within 0.10"
    )
    assert "0.500 to 0.950 on 40 held-out items of 20 sessions, loss -0.450" in said
    assert "60.5 tokens saved per request (one-sided bounds 60.5 and 60.5)" in said
    assert not [warning for warning in verdict.warnings if "prompt" in warning]


def test_saved_tokens_have_bounds_over_sessions() -> None:
    rows = [prompted(row, base=False, saved=50 + 10 * (number // 20)) for number, row in enumerate(learned(38, 0))]
    saved = judged(rows)[1].tokens_saved
    assert saved.mean == 55 and saved.low is not None and saved.high is not None
    assert 52 < saved.low < 54 and 56 < saved.high < 58


@pytest.mark.parametrize(
    ("right", "base", "state"),
    [
        (38, 38, SuiteState.INTACT),
        (20, 21, SuiteState.UNPROVEN),
        (20, 24, SuiteState.UNPROVEN),
        (20, 40, SuiteState.BROKEN),
    ],
)
def test_a_loss_against_the_base_with_its_prompt_is_a_warning_and_blocks_where_the_owner_wants_it(
    right: int, base: int, state: SuiteState
) -> None:
    rows = learned(right, base)
    warned, context = judged(rows)
    blocked, _ = judged(rows, BLOCKING)
    assert context.state is state
    assert warned.decision == "promote"
    assert bool([text for text in warned.warnings if "the base with the prompt" in text]) is (
        state is not SuiteState.INTACT
    )
    expected = {SuiteState.INTACT: "promote", SuiteState.UNPROVEN: "inconclusive", SuiteState.BROKEN: "banish"}
    assert (blocked.decision, blocked.suites_state) == (expected[state], state)
    assert [text for text in blocked.reasons if "the base with the prompt" in text] and not [
        text for text in blocked.warnings if "the base with the prompt" in text
    ]


def test_an_intact_context_mends_no_broken_suite() -> None:
    rows = learned(38, 0)
    none = Policy(resamples=400, suites={SUITE: SuitePolicy(blocking=False)}, context=ContextPolicy(blocking=True))
    assert judged(rows, none)[0].suites_state is SuiteState.UNPROVEN, "nothing is known to be kept"


def test_too_few_items_of_too_few_sessions_prove_nothing() -> None:
    few = [*learned(40, 0, n=11), *(held_out(number, False, True) for number in range(11, 40))]
    for rows in (
        few,
        [row.model_copy(update={"session": f"s{number % 4}"}) for number, row in enumerate(learned(40, 0))],
    ):
        verdict, context = judged(rows)
        assert context.state is SuiteState.UNPROVEN
        assert [text for text in verdict.warnings if text.startswith("Too little to judge the context")]


def test_worn_sessions_carry_no_verdict_on_the_context_and_save_tokens_all_the_same() -> None:
    _, context = judged(learned(40, 0), look=Look(worn=("s0", "s1")))
    assert (context.items, context.sessions, context.tokens_saved.mean) == (36, 18, 60.5)


def test_a_persona_without_rules_saves_tokens_and_its_context_is_not_judged() -> None:
    rows = [held_out(number, None, None, nll_gain=1).model_copy(update={"tokens_saved": 9}) for number in range(40)]
    verdict, context = judged(rows)
    assert (context.items, context.state, context.tokens_saved.mean) == (0, SuiteState.UNPROVEN, 9)
    assert "9.0 tokens saved per request" in verdict.warnings[-2]


def test_a_persona_without_a_system_prompt_is_judged_without_a_context() -> None:
    plain = [held_out(number, False, True) for number in range(40)]
    verdict = judge(results(INTACT, plain), BLOCKING)
    assert verdict.context is None and verdict.decision == "promote"


def test_the_evidence_carries_the_four_arms_and_gives_the_same_verdict() -> None:
    measured = results(INTACT, learned(30, 20))
    records = {row.id: Record(session=row.session, line=row.id, has_prompt=True) for row in measured.holdout}
    sealed, _ = seal(measured, records, "salt")
    found, expected = judge(sealed, POLICY).context, judge(measured, POLICY).context
    assert found and expected and found.state is expected.state is SuiteState.INTACT
    assert (found.loss.mean, found.base_prompted, found.tokens_saved.mean) == (
        expected.loss.mean,
        expected.base_prompted,
        expected.tokens_saved.mean,
    )


UNASKED = {"prompted": None, "tokens_saved": None}


@pytest.mark.parametrize(
    ("changes", "shown", "has_prompt", "accepted"),
    [
        ({}, True, True, True),
        (UNASKED, False, True, True),
        (UNASKED, True, False, True),
        ({}, True, False, False),
        ({}, False, True, False),
        (UNASKED, True, True, False),
        ({"prompted": None}, True, True, False),
        ({"tokens_saved": None}, True, True, False),
    ],
)
def test_results_that_skip_a_prompt_or_have_one_that_no_record_has_are_refused(
    changes: dict[str, Any], shown: bool, has_prompt: bool, accepted: bool
) -> None:
    rows = [row.model_copy(update=changes) for row in learned(4, 4, n=4)]
    found = results(INTACT, rows).model_copy(update={"prompts_shown": shown})
    records = {row.id: Record(session=row.session, line=row.id, has_prompt=has_prompt) for row in rows}
    if accepted:
        expect_whole(found, records)
    else:
        with pytest.raises(ValueError, match="asked with a system prompt"):
            expect_whole(found, records)


def test_a_record_without_rules_is_asked_for_its_tokens_alone() -> None:
    row = held_out(0, None, None).model_copy(update={"tokens_saved": 9})
    records = {row.id: Record(session=row.session, line=row.id, has_prompt=True)}
    expect_whole(results(INTACT, [row]), records)
    with pytest.raises(ValueError, match="asked with a system prompt"):
        expect_whole(results(INTACT, [prompted(row, base=True)]), records)


def test_the_sealed_records_tell_which_have_a_system_prompt(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "hi"}
    openings = {"p": [{"role": "system", "content": "Be short."}], "e": [{"role": "system", "content": ""}], "n": []}
    rows = [{"id": name, "session": "s", "messages": [*opening, asked]} for name, opening in openings.items()]
    (tmp_path / HOLDOUT).mkdir()
    (tmp_path / HOLDOUT / "00000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {key: record.has_prompt for key, record in read_records(tmp_path).items()} == {
        "p": True,
        "e": False,
        "n": False,
    }
