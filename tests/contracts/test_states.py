"""The table of a ritual's states: total, owned, and with an end in reach of every state."""

from __future__ import annotations

from uuid import uuid4

import pytest

from deploy.services import OWNERS, subscriptions
from shared.contracts.message import event_id
from shared.contracts.ritual import ENDS, FACTS, HOLDS_ANVIL, TRANSITIONS, State, leads_from


def test_every_state_that_is_no_end_has_an_owner_and_every_end_has_none() -> None:
    assert set(OWNERS) == set(State) - ENDS


def test_every_fact_wakes_the_owner_of_the_state_that_it_leads_to() -> None:
    consumed = {(one.service, one.message) for one in subscriptions()}

    assert not [
        (fact, after)
        for (_, fact), after in TRANSITIONS.items()
        if after not in ENDS and (OWNERS[after], fact) not in consumed
    ]


def test_no_fact_leads_out_of_an_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state in ENDS]


@pytest.mark.parametrize("state", sorted(set(State) - ENDS))
def test_every_state_can_reach_an_end_and_can_be_cancelled(state: State) -> None:
    reached, frontier = {state}, {state}
    while frontier:
        frontier = {after for (before, _), after in TRANSITIONS.items() if before in frontier} - reached
        reached |= frontier

    assert reached & ENDS
    assert State.CANCELLED in {after for (before, _), after in TRANSITIONS.items() if before is state}


def test_every_fact_of_the_table_is_listed() -> None:
    assert {fact for _, fact in TRANSITIONS} <= set(FACTS)


def test_only_the_anvil_s_holders_can_be_interrupted() -> None:
    from shared.contracts.evacuate import GpuInterrupted

    assert set(leads_from(GpuInterrupted)) == set(HOLDS_ANVIL)


def test_an_event_id_is_the_same_for_the_same_fact_and_another_for_the_next_attempt() -> None:
    ritual = uuid4()

    assert event_id(ritual, "adapter.forged", 1) == event_id(ritual, "adapter.forged", 1)
    assert event_id(ritual, "adapter.forged", 1) != event_id(ritual, "adapter.forged", 2)
