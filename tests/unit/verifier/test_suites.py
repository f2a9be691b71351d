"""The base-logic suite: what is committed is what the generator writes, and no answer gives itself away."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.verifier.evidence import above_chance
from tools.suite.generate import FOLDER, files, kinds
from tools.suite.items import Kind, rows, sisters

SUITE = json.loads((FOLDER / "suite.json").read_text(encoding="utf-8"))
KINDS = {kind.name: kind for kind in kinds()}


def test_the_committed_files_are_what_the_generator_writes() -> None:
    written = files(kinds())
    for name, content in written.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == content, name
    committed = {path.name for path in FOLDER.iterdir() if path.suffix in (".jsonl", ".yaml")}
    assert committed == set(written)


def test_about_six_hundred_items_have_their_own_ids_and_contents() -> None:
    every: list[dict[str, Any]] = [row for kind in KINDS.values() for row in rows(kind)]
    assert 550 <= len(every) <= 650
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


@pytest.mark.parametrize("name", KINDS)
def test_every_task_file_names_its_kind_its_data_and_the_suite(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    task = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert task["task"] == f"base_logic_{name}"
    assert task["tag"] == "base_logic"
    data = Path(task["dataset_kwargs"]["data_files"]["test"])
    assert (FOLDER.parent / data).is_file()
    assert not data.is_absolute()
    assert re.fullmatch(r"\{\{(\w+)\}\}", task["doc_to_text"])


def test_every_kind_has_a_measured_base_score_above_chance() -> None:
    assert [row["kind"] for row in SUITE["kinds"]] == sorted(KINDS)
    for row in SUITE["kinds"]:
        kind = KINDS[row["kind"]]
        assert (row["n"], row["chance"]) == (len(kind.items), kind.chance)
        assert above_chance(row["right"], row["n"], row["chance"], SUITE["confidence"]), row


def test_the_readme_shows_the_measured_table() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for row in SUITE["kinds"]:
        assert re.search(rf"\| {row['kind']} \|.*\| {row['n']} \|", readme), row["kind"]


def test_a_group_that_holds_an_answer_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        sisters("opposite", [("a", "x"), ("b", "x")])
