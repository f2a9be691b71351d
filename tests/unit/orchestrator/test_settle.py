"""What a held anvil needs, for every kind of lease and ritual."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.orchestrator.settle import Step, decide, lost
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed
from shared.contracts.ritual import ENDS, HOLDS_ANVIL, State
from shared.lease import Lease
from shared.ledger import Ritual

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RITUAL = uuid4()


def ritual(state: State, attempt: int = 1, cancelled: bool = False) -> Ritual:
    return Ritual(
        id=RITUAL,
        intent_id="one",
        persona="scribe",
        intent={},
        priority=5,
        state=state,
        version=0,
        attempt=attempt,
        trace_id=RITUAL.hex,
        parent_span_id=None,
        cancel_requested_at=NOW if cancelled else None,
        cancel_why=None,
        created_at=NOW,
        entered_at=NOW,
        ended_at=None,
    )


def held(live: bool = True, attempt: int = 1) -> Lease:
    return Lease("anvil0", RITUAL, attempt, 7, live)


@pytest.mark.parametrize("state", sorted(HOLDS_ANVIL))
def test_a_holder_at_work_is_left_alone_while_its_lease_lives(state: State) -> None:
    assert decide(held(), ritual(state)) is Step.LEAVE


@pytest.mark.parametrize("state", sorted(HOLDS_ANVIL))
def test_a_holder_whose_lease_expired_is_interrupted(state: State) -> None:
    assert decide(held(live=False), ritual(state)) is Step.INTERRUPT


def test_an_evacuation_that_was_cut_short_goes_on_while_its_lease_lives() -> None:
    assert decide(held(), ritual(State.HARVESTED)) is Step.EVACUATE
    assert decide(held(live=False), ritual(State.HARVESTED)) is Step.TAKE_BACK


def test_an_evacuation_for_a_cancelled_ritual_ends() -> None:
    assert decide(held(), ritual(State.HARVESTED, cancelled=True)) is Step.TAKE_BACK


@pytest.mark.parametrize("state", sorted(set(State) - HOLDS_ANVIL - {State.HARVESTED}))
@pytest.mark.parametrize("live", [True, False])
def test_whoever_no_longer_works_gives_the_anvil_back(state: State, live: bool) -> None:
    assert decide(held(live), ritual(state)) is Step.TAKE_BACK


@pytest.mark.parametrize("state", sorted({*HOLDS_ANVIL, State.HARVESTED}))
def test_the_lease_of_an_earlier_attempt_is_taken_back(state: State) -> None:
    assert decide(held(attempt=1), ritual(state, attempt=2)) is Step.TAKE_BACK


def test_lost_work_is_tried_again_until_the_last_attempt() -> None:
    assert isinstance(lost(ritual(State.EVACUATED, attempt=2), 3), GpuInterrupted)
    assert isinstance(lost(ritual(State.EVACUATED, attempt=3), 3), AdapterFailed)


def test_every_end_is_no_holder() -> None:
    assert not ENDS & HOLDS_ANVIL
