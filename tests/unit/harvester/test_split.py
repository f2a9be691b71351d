"""Splits: fixed by lineage, stable as karma grows, and never two for one family of records."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.harvester.policy import HarvestPolicy
from services.harvester.split import Split, describe_circle, find_circles, join_groups, lineage_place, split_of

links = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40).map(
    lambda pairs: [(f"s{one}", f"s{other}") for one, other in pairs]
)
SHARES = HarvestPolicy().split


def split(persona: str, session: str) -> Split:
    return split_of(lineage_place(SHARES.key, persona, session), SHARES.holdout, SHARES.dev)


@given(links)
def test_linked_sessions_are_one_lineage_named_by_its_smallest(pairs: list[tuple[str, str]]) -> None:
    lineage = join_groups(pairs)

    assert all(lineage[one] == lineage[other] for one, other in pairs)
    assert all(name <= session and lineage[name] == name for session, name in lineage.items())


@given(links, st.integers())
def test_lineages_do_not_depend_on_the_order_of_links(pairs: list[tuple[str, str]], seed: int) -> None:
    shuffled = [pair[:: random.Random(seed).choice((1, -1))] for pair in pairs]
    random.Random(seed).shuffle(shuffled)

    assert join_groups(shuffled) == join_groups(pairs)


@given(links, links)
def test_links_between_other_sessions_move_none(pairs: list[tuple[str, str]], others: list[tuple[str, str]]) -> None:
    elsewhere = [(f"new-{one}", f"new-{other}") for one, other in others]

    assert join_groups([*pairs, *elsewhere]) == join_groups(pairs) | join_groups(elsewhere)


def test_the_shares_are_near_what_is_wanted() -> None:
    counts = Counter(split("scribe", f"session-{number}") for number in range(20_000))

    assert abs(counts[Split.HOLDOUT] / 20_000 - SHARES.holdout) < 0.01
    assert abs(counts[Split.DEV] / 20_000 - SHARES.dev) < 0.01


def test_another_persona_and_another_key_split_otherwise() -> None:
    names = [f"session-{number}" for number in range(200)]

    assert [split("scribe", name) for name in names] != [split("coder", name) for name in names]
    assert [lineage_place("a", "scribe", name) for name in names] != [
        lineage_place("b", "scribe", name) for name in names
    ]


def test_a_larger_share_of_dev_takes_nothing_from_the_holdout() -> None:
    places = [number / 100 for number in range(100)]
    held = [place for place in places if split_of(place, 0.2, 0.05) is Split.HOLDOUT]

    assert held == [place for place in places if split_of(place, 0.2, 0.4) is Split.HOLDOUT]


@pytest.mark.parametrize(
    ("parents", "circles"),
    [
        ({}, []),
        ({"a": "b", "b": "c"}, []),
        ({"a": "a"}, [("a",)]),
        ({"b": "a", "a": "b"}, [("a", "b")]),
        ({"c": "a", "a": "b", "b": "c", "leaf": "a", "leaf of leaf": "leaf"}, [("a", "b", "c")]),
        ({"x": "y", "y": "x", "a": "a", "b": "c"}, [("x", "y"), ("a",)]),
    ],
)
def test_parents_that_lead_back_are_circles_and_what_hangs_on_one_is_not_part_of_it(
    parents: dict[str, str], circles: list[tuple[str, ...]]
) -> None:
    assert find_circles(parents) == circles


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 40)))
def test_a_record_is_in_a_circle_exactly_where_its_parents_come_back_to_it(parents: dict[int, int]) -> None:
    named = {f"{child:02}": f"{parent:02}" for child, parent in parents.items()}

    def returns(start: str) -> bool:
        at = named[start]
        for _ in named:
            if at == start:
                return True
            at = named.get(at, "none")
        return at == start

    circles = find_circles(named)
    assert sorted(member for circle in circles for member in circle) == sorted(filter(returns, named))
    assert all(named[one] == other for circle in circles for one, other in pairwise(circle))


def test_a_long_circle_is_shown_in_part() -> None:
    assert describe_circle(["a"]) == "a → a"
    assert describe_circle([*"abcde"]) == "a → b → c → d → e → a"
    assert describe_circle([*"abcdefg"]) == "a → b → c → d → e → … 2 more → a"
