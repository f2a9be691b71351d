"""What to do about a held anvil, for every kind of lease and ritual."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.orchestrator.held import Action, choose_action
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed
from shared.contracts.job import JobResult
from shared.contracts.ritual import ENDS, HOLDS_ANVIL, State
from shared.ritual.attempts import unfinished
from shared.ritual.lease import Lease
from shared.ritual.ledger import Ritual

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RITUAL = uuid4()


def ritual(state: State, attempt: int = 1, cancelled: bool = False, paused: bool = False) -> Ritual:
    return Ritual(
        id=RITUAL,
        intent_id="one",
        persona="scribe",
        intent_body={"persona": "scribe"},
        priority=5,
        state=state,
        version=0,
        attempt=attempt,
        trace_id=RITUAL.hex,
        parent_span_id=None,
        cancel_requested_at=NOW if cancelled else None,
        cancel_why=None,
        paused_at=NOW if paused else None,
        paused_why="night" if paused else None,
        created_at=NOW,
        entered_at=NOW,
        ended_at=None,
    )


def held(live: bool = True, attempt: int = 1) -> Lease:
    return Lease("anvil0", RITUAL, attempt, 7, live)


@pytest.mark.parametrize("state", sorted(HOLDS_ANVIL))
def test_a_holder_at_work_is_left_alone_while_its_lease_lives(state: State) -> None:
    assert choose_action(held(), ritual(state)) is Action.LEAVE


@pytest.mark.parametrize("state", sorted(HOLDS_ANVIL))
def test_a_holder_whose_lease_expired_is_interrupted(state: State) -> None:
    assert choose_action(held(live=False), ritual(state)) is Action.INTERRUPT


def test_an_evacuation_that_was_cut_short_goes_on_while_its_lease_lives() -> None:
    assert choose_action(held(), ritual(State.HARVESTED)) is Action.EVACUATE
    assert choose_action(held(live=False), ritual(State.HARVESTED)) is Action.TAKE_BACK


def test_an_evacuation_for_a_cancelled_ritual_ends() -> None:
    assert choose_action(held(), ritual(State.HARVESTED, cancelled=True)) is Action.TAKE_BACK


@pytest.mark.parametrize("state", sorted(set(State) - HOLDS_ANVIL - {State.HARVESTED}))
@pytest.mark.parametrize("live", [True, False])
def test_an_anvil_whose_ritual_is_not_at_work_is_taken_back(state: State, live: bool) -> None:
    assert choose_action(held(live), ritual(state)) is Action.TAKE_BACK


@pytest.mark.parametrize("state", sorted({*HOLDS_ANVIL, State.HARVESTED}))
def test_the_lease_of_an_earlier_attempt_is_taken_back(state: State) -> None:
    assert choose_action(held(attempt=1), ritual(state, attempt=2)) is Action.TAKE_BACK


@pytest.mark.parametrize("state", sorted(HOLDS_ANVIL))
@pytest.mark.parametrize("live", [True, False])
def test_a_holder_gives_way_when_the_anvil_is_reclaimed(state: State, live: bool) -> None:
    assert choose_action(held(live), ritual(state), reclaimed=True) is Action.YIELD
    assert choose_action(held(), ritual(state, cancelled=True), reclaimed=True) is Action.LEAVE


def test_an_evacuation_ends_when_the_anvil_is_reclaimed() -> None:
    assert choose_action(held(), ritual(State.HARVESTED), reclaimed=True) is Action.TAKE_BACK


@pytest.mark.parametrize("state", sorted(HOLDS_ANVIL))
@pytest.mark.parametrize("live", [True, False])
def test_a_holder_that_is_paused_gives_way_unless_it_is_to_end(state: State, live: bool) -> None:
    assert choose_action(held(live), ritual(state, paused=True)) is Action.YIELD
    assert choose_action(held(), ritual(state, cancelled=True, paused=True)) is Action.LEAVE


def test_an_evacuation_for_a_paused_ritual_ends() -> None:
    assert choose_action(held(), ritual(State.HARVESTED, paused=True)) is Action.TAKE_BACK


def test_lost_work_is_tried_again_until_it_was_lost_too_often() -> None:
    lost = JobResult(ok=False, error="gone")
    assert isinstance(unfinished(ritual(State.EVACUATED, attempt=9), lost, 1, 3), GpuInterrupted)
    fact = unfinished(ritual(State.EVACUATED, attempt=3), lost, 2, 3)
    assert isinstance(fact, AdapterFailed)
    assert fact.reason == "gone; given up after 3 attempts"


def test_a_job_that_stopped_because_it_was_asked_has_not_failed_however_often() -> None:
    asked = JobResult(ok=False, error="asked to stop", interrupted=True)
    fact = unfinished(ritual(State.EVACUATED, attempt=9), asked, 8, 3)
    assert isinstance(fact, GpuInterrupted)
    assert fact.asked


def test_a_permanent_error_is_not_tried_again() -> None:
    broken = JobResult(ok=False, error="no such recipe", permanent=True)
    assert isinstance(unfinished(ritual(State.EVACUATED), broken, 0, 3), AdapterFailed)


def test_every_end_is_no_holder() -> None:
    assert not ENDS & HOLDS_ANVIL
