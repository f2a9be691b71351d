"""Splits: fixed by lineage, stable as karma grows, and never two for one family of records."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.harvester.split import DEV_SHARE, HOLDOUT_SHARE, Split, assign, lineages

sessions = st.integers(0, 30).map(lambda number: f"s{number}")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, str | None]]:
    """Records in order, each of a session, some correcting an earlier one."""
    records: list[tuple[str, str, str | None]] = []
    for number in range(draw(st.integers(1, 40))):
        parent = draw(st.sampled_from([None, None, *(record for record, _, _ in records)]))
        records.append((f"r{number}", draw(sessions), parent))
    return records


@given(histories())
def test_a_record_shares_its_lineage_with_its_session_and_with_what_it_corrects(
    history: list[tuple[str, str, str | None]],
) -> None:
    lineage = lineages(history)
    session_of = {record: session for record, session, _ in history}

    for record, session, parent in history:
        assert all(lineage[other] == lineage[record] for other in session_of if session_of[other] == session)
        if parent:
            assert lineage[parent] == lineage[record]


@given(histories(), st.randoms(use_true_random=False))
def test_lineages_do_not_depend_on_the_order_of_records(history: list[tuple[str, str, str | None]], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(history)
    random.shuffle(shuffled)

    assert lineages(shuffled) == lineages(history)


@given(histories(), st.integers(1, 20))
def test_new_sessions_move_no_earlier_record(history: list[tuple[str, str, str | None]], more: int) -> None:
    grown = [*history, *((f"new{number}", f"later{number}", None) for number in range(more))]

    before, after = lineages(history), lineages(grown)

    assert {record: after[record] for record in before} == before


def test_the_shares_are_near_what_is_wanted() -> None:
    counts = Counter(assign("scribe", f"session-{number}") for number in range(20_000))

    assert abs(counts[Split.HOLDOUT] / 20_000 - HOLDOUT_SHARE) < 0.01
    assert abs(counts[Split.DEV] / 20_000 - DEV_SHARE) < 0.01


def test_another_persona_splits_otherwise() -> None:
    names = [f"session-{number}" for number in range(200)]

    assert [assign("scribe", name) for name in names] != [assign("coder", name) for name in names]
