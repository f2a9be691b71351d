"""How well near copies and contradictions are told from lessons of their own, in sixteen languages."""

from __future__ import annotations

import pytest

from services.harvester.scan.compare import Likeness
from tests.support.corpora.languages import LANGUAGES
from tests.support.corpora.likeness import KINDS, Measured, cases, measure, table


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure([6, 7, 8])


def test_in_every_language_near_copies_are_found_and_no_lesson_is_lost(measured: Measured) -> None:
    print("\n" + table(measured))

    near = Likeness.NEAR
    assert {name: r for name in LANGUAGES if (r := measured.recall(name, near)) < 0.97} == {}
    assert {name: p for name in LANGUAGES if (p := measured.precision(name, near)) < 1} == {}


def test_in_every_language_contradictions_are_found_and_other_valid_answers_are_none(measured: Measured) -> None:
    contradicting = Likeness.CONTRADICTING
    assert {name: r for name in LANGUAGES if (r := measured.recall(name, contradicting)) < 0.95} == {}
    assert {name: p for name in LANGUAGES if (p := measured.precision(name, contradicting)) < 0.99} == {}


def test_the_corpus_has_every_kind_in_every_language_and_is_the_same_for_the_same_seed() -> None:
    drawn = list(cases(6))

    assert {(case.language, case.kind) for case in drawn} == {(name, kind) for name in LANGUAGES for kind in KINDS}
    assert drawn == list(cases(6)) != list(cases(7))
    assert all(case.one != case.other for case in drawn if case.likeness is not Likeness.NEAR)
