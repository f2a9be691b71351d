"""The shipped items: what is committed is what the generator writes, and no choice gives itself away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from services.verifier.evidence import above_chance
from shared.storage.suites import load_suites
from tools.suite.generate import FOLDER, files, kinds
from tools.suite.items import Kind, rows, sisters
from tools.suite.measure import CONFIDENCE, MEASURED, Measured

FOUND = Measured.model_validate_json((FOLDER / MEASURED).read_text(encoding="utf-8"))
KINDS = {kind.name: kind for kind in kinds()}


def test_the_committed_files_are_what_the_generator_writes() -> None:
    written = files()
    for name, content in written.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == content, name
    committed = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.jsonl")}
    assert committed == set(written)


def test_some_seven_hundred_items_have_their_own_ids_and_contents() -> None:
    every: list[dict[str, Any]] = [row for kind in KINDS.values() for row in rows(kind)]
    assert 650 <= len(every) <= 800
    assert len({row["id"] for row in every}) == len(every)
    contents = Counter((row["context"], tuple(sorted(map(str, row["choices"])))) for row in every)
    assert [content for content, times in contents.items() if times > 2] == []
    asked = Counter((row["context"], row["choices"][row["answer"]]) for row in every)
    assert [question for question, times in asked.items() if times > 1] == []


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_right_answer_stands_at_each_place_equally_often(kind: Kind) -> None:
    places = Counter(row["answer"] for row in rows(kind))
    assert len(places) == round(1 / kind.chance)
    assert max(places.values()) - min(places.values()) <= 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_choosing_by_length_scores_no_better_than_a_guess(kind: Kind) -> None:
    for choose in (max, min):
        score = sum(_share_of(choose, item.right, item.wrong) for item in kind.items) / len(kind.items)
        assert score <= kind.chance + 0.1


def _share_of(choose: Callable[[list[int]], int], right: str, wrong: tuple[str, ...]) -> float:
    """What a guesser among the longest (or shortest) choices scores."""
    lengths = [len(right), *map(len, wrong)]
    best = choose(lengths)
    return (lengths[0] == best) / lengths.count(best)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_item_has_one_right_answer_among_different_choices(kind: Kind) -> None:
    for item in kind.items:
        assert item.right not in item.wrong
        assert len(set(item.wrong)) == len(item.wrong) == round(1 / kind.chance) - 1
        assert item.right == item.right.strip()
        assert item.context == item.context.strip()


def test_every_kind_has_a_measured_base_score_above_chance() -> None:
    suites = load_suites(FOLDER)
    assert FOUND.suites == {name: suite.digest for name, suite in suites.items()}, "measure again"
    kinds_of = {(name, kind): items for name, suite in suites.items() for kind, items in suite.items.items()}
    assert {(row.suite, row.kind) for row in FOUND.kinds} == kinds_of.keys()
    for row in FOUND.kinds:
        assert row.n == len(kinds_of[row.suite, row.kind])
        assert above_chance(row.right, row.n, row.chance, CONFIDENCE), row


def test_a_base_has_something_left_to_gain_on_each_suite() -> None:
    measured = [name for name, suite in load_suites(FOLDER).items() if not suite.suite.leaks]
    for suite in measured:
        own = [row for row in FOUND.kinds if row.suite == suite]
        assert sum(row.right for row in own) / sum(row.n for row in own) < 0.98


def test_the_readme_shows_the_measured_table() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for row in FOUND.kinds:
        assert re.search(rf"\| {row.suite} \| {row.kind} \|.*\| {row.n} \|", readme), row.kind


def test_a_group_that_holds_an_answer_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        sisters("opposite", [("a", "x"), ("b", "x")])
