"""Splits: fixed by lineage, stable as karma grows, and never two for one family of records."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.harvester.policy import HarvestPolicy
from services.harvester.split import Split, join_groups, lineage_place, split_of

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
