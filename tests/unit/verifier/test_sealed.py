"""Evidence without texts: the same verdict follows from it, and from nothing that an evaluator skipped, repeated or broke."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.reconcile import effective_policy
from services.verifier.results import ItemScore, Results
from services.verifier.sealed import (
    Record,
    SealedEvidence,
    check_texts,
    expect_suites,
    expect_whole,
    seal,
)
from services.verifier.verdict import judge
from shared.config.settings import PROJECT
from shared.contracts.verify import Arm, Look, Policy
from shared.storage.suites import load_suites
from shared.storage.untrusted import OutputError, validate
from tests.support.bundles import POLICY, SALT, evidence_of, records
from tests.support.evaluations import INTACT, LEARNED, items_of, promoted, results

TEXT = "the secret of the bakery"
SUITES = load_suites(PROJECT / "services" / "verifier" / "suites")
PROMOTED = promoted()


def with_texts() -> Results:
    """Results whose answers, ids and sessions hold text."""
    items = tuple(score.model_copy(update={"answer": TEXT}) for score in INTACT)
    rows = [
        row.model_copy(
            update={"arms": {arm: answer.model_copy(update={"answer": TEXT}) for arm, answer in row.arms.items()}}
        )
        for row in LEARNED
    ]
    return results(items, rows).model_copy(update={"repeated": items[:2], "holdout_left_out": {"h999": TEXT}})


def test_no_text_id_or_session_of_the_holdout_is_in_the_evidence() -> None:
    kept = {**records(), "h999": Record(session=TEXT, line=f'{{"id": "h999", "text": "{TEXT}"}}\n')}
    sealed, sessions = seal(with_texts(), kept, SALT)
    text = sealed.model_dump_json()
    assert TEXT not in text and "h999" not in text and '"s1"' not in text and '"h001"' not in text
    assert len(set(sessions.values())) == len({record.session for record in kept.values()})


def test_the_verdict_of_the_evidence_is_the_same_on_another_day_and_from_its_file() -> None:
    evidence = evidence_of("sha256:a")
    read = SealedEvidence.model_validate_json(evidence.model_dump_json())
    assert read.verdict() == evidence.verdict()
    assert evidence.verdict().decision == "promote"
    assert (
        evidence.verdict().model_dump()
        == SealedEvidence.model_validate_json(read.model_dump_json()).verdict().model_dump()
    )


def test_the_evidence_names_the_records_that_the_holdout_has() -> None:
    evidence, kept = evidence_of("sha256:a"), records()
    check_texts(evidence, kept)
    changed = {**kept, "h003": kept["h003"].model_copy(update={"line": "another text"})}
    with pytest.raises(ValueError, match="2 of 41 items are not the same"):
        check_texts(evidence, changed)
    with pytest.raises(ValueError, match="are not the same"):
        check_texts(evidence, {key: record for key, record in kept.items() if key != "h003"})
    moved = {**kept, "h003": kept["h003"].model_copy(update={"session": "s9"})}
    with pytest.raises(ValueError, match="under another session"):
        check_texts(evidence, moved)


def test_a_worn_session_carries_nothing() -> None:
    sealed, sessions = seal(results(INTACT, LEARNED), records(), SALT)
    every = tuple(sorted(sessions.values()))
    some = judge(sealed, POLICY, Look(worn=every[:8]))
    assert (some.decision, some.target.items, some.target.worn) == ("promote", 24, 8)
    worn = judge(sealed, POLICY, Look(worn=every[2:]))
    assert worn.decision == "inconclusive"
    assert worn.reasons[0].startswith("The holdout is worn out: 18 sessions carried 60 verdicts each")


def test_what_showed_learning_at_the_first_look_does_not_after_many_failures() -> None:
    slight = [
        *LEARNED[:18],
        *(row.model_copy(update={"arms": dict.fromkeys(row.arms, row.arms[Arm.BASE])}) for row in LEARNED[18:]),
    ]
    first = judge(results(INTACT, slight), POLICY)
    later = judge(results(INTACT, slight), POLICY, Look(history=(False,) * 9))
    assert (first.decision, later.decision) == ("promote", "inconclusive")
    assert first.target.p_value == later.target.p_value
    assert "10th look" in later.reasons[0]


def test_a_holdout_of_few_sessions_says_that_nothing_could_be_shown() -> None:
    few = [row.model_copy(update={"session": f"s{number % 6}"}) for number, row in enumerate(LEARNED)]
    verdict = judge(results(INTACT, few), POLICY)
    assert verdict.decision == "inconclusive"
    assert verdict.target.minimum_detectable_gain is None
    assert "6 sessions are too few for level 0.0061" in verdict.reasons[0]


# --- an evaluator that errs

ROWS = {row.id: Record(session=row.session, line=row.id) for row in PROMOTED.holdout}


def judged(found: dict[str, Any]) -> str:
    """What the verifier makes of these results: the decision, or why there is none."""
    try:
        measured = validate(found, Results, "results.json")
        expect_suites(measured, SUITES)
        expect_whole(measured, ROWS)
        return judge(measured, effective_policy(Policy(resamples=200), SUITES)).decision
    except (OutputError, ValueError) as error:
        return f"refused: {error}"


def dumped() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PROMOTED.model_dump_json())
    return found


def drop(rows: list[Any], at: int) -> None:
    del rows[at % len(rows)]


def repeat(rows: list[Any], at: int) -> None:
    rows.append(rows[at % len(rows)])


def repeat_for_another(rows: list[Any], at: int) -> None:
    rows[at % len(rows)] = rows[(at + 2) % len(rows)]


def rename(rows: list[Any], at: int) -> None:
    row = rows[at % len(rows)]
    row["id" if "id" in row else "item"] += "x"


def move(rows: list[Any], at: int) -> None:
    row = rows[at % len(rows)]
    row["session"] += "x"


def break_number(rows: list[Any], at: int) -> None:
    row = rows[at % len(rows)]
    (row["arms"]["candidate"] if "arms" in row else row)["nll" if "arms" in row else "margin"] = float("nan")


ERRORS: list[Callable[[list[Any], int], None]] = [drop, repeat, repeat_for_another, rename, move, break_number]


def test_a_sound_evaluator_is_judged() -> None:
    assert judged(dumped()) == "promote"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ERRORS), st.sampled_from(["items", "holdout"]), st.integers(0, 5000))
def test_what_is_skipped_repeated_or_broken_never_passes(
    error: Callable[[list[Any], int], None], where: str, at: int
) -> None:
    found = dumped()
    error(found[where], at)
    assert judged(found).startswith("refused"), f"{error.__name__} of {where}"


def test_an_item_that_both_arms_answered_under_another_name_never_passes() -> None:
    found = dumped()
    name = found["items"][0]["item"]
    for score in found["items"]:
        if score["item"] == name:
            score["item"] = "another"
    assert "did not answer all" in judged(found)


def test_a_suite_that_was_skipped_never_passes() -> None:
    for name in SUITES:
        found = dumped()
        found["items"] = [score for score in found["items"] if score["suite"] != name]
        found["suites"][name]["items"] = 0
        assert judged(found).startswith("refused"), name
        del found["suites"][name]
        assert judged(found).startswith("refused"), name


def test_arms_that_changed_places_never_pass() -> None:
    found = dumped()
    places = {"base": "candidate", "candidate": "base"}
    found["holdout"] = [
        {**row, "arms": {places[arm]: answer for arm, answer in row["arms"].items()}} for row in found["holdout"]
    ]
    found["items"] = [{**score, "arm": places[score["arm"]]} for score in found["items"]]
    assert judged(found) == "banish"


@pytest.mark.parametrize("arms", [(Arm.BASE,), (Arm.CANDIDATE,), (Arm.BASE, Arm.CANDIDATE)])
def test_a_model_that_answers_at_random_never_passes(arms: tuple[Arm, ...]) -> None:
    found = results(INTACT, LEARNED, chance=0.5)
    items = tuple(_at_random(score) if score.arm in arms else score for score in found.items)
    verdict = judge(found.model_copy(update={"items": items}), POLICY)
    assert verdict.decision != "promote"
    [suite] = verdict.suites.values()
    [kind] = suite.kinds
    if Arm.BASE in arms:
        assert not kind.counted and suite.items == 0 and kind.base.interval.low < 0.5 < kind.base.interval.high
    else:
        assert suite.state == "broken" and kind.candidate.interval.low < 0.5 < kind.candidate.interval.high


def _at_random(score: ItemScore) -> ItemScore:
    return score.model_copy(update={"correct": crc32(f"{score.arm} {score.item}".encode()) % 2 == 0})


def test_a_base_that_differs_from_itself_promotes_nothing() -> None:
    again = tuple(score for score in INTACT if score.arm is Arm.BASE)[:100]
    found = results(INTACT, LEARNED)
    same = judge(found.model_copy(update={"repeated": again}), POLICY)
    assert same.decision == "promote" and same.noise and not same.noise.differs
    flipped = tuple(score.model_copy(update={"correct": not score.correct}) for score in again[20:32])
    other = judge(found.model_copy(update={"repeated": (*flipped, *again[:20], *again[32:])}), POLICY)
    assert other.decision == "inconclusive"
    assert any(reason.startswith("The base differs from itself: 12 lost and 0 won of 100") for reason in other.reasons)


def test_suites_that_only_warn_are_adjusted_for_their_number() -> None:
    verdict = judge(results([*INTACT, *items_of("words", 300, lost=9, suite="other")], LEARNED), POLICY)
    logic, other = verdict.suites["base-logic"], verdict.suites["other"]
    assert other.adjusted == pytest.approx(2 * other.p_value)
    assert logic.adjusted == pytest.approx(logic.p_value)
