"""Every ritual × lease × job, walked through the decisions that the code itself takes, until the ritual has ended.

The walk is the worst case: time passes at every step, and the service of the stage can do no more than its ability. The
anvil must come free and the ritual must end from every state, also from those that only a lost row or a forged one makes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import product
from time import time
from uuid import uuid4

import pytest

from services.orchestrator.held import EXPIRED, Action, choose_action
from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted, GpuRefused
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.intent import RitualCancelled
from shared.contracts.job import JobResult
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterAwakened, AdapterKept, AdapterRegistered
from shared.contracts.ritual import ENDS, HOLDS_ANVIL, TRANSITIONS, State
from shared.contracts.verify import AdapterVerified
from shared.drivers.containers.port import ContainerInfo, ContainerState
from shared.jobs.heartbeat import CONCLUDE_WITHIN_S, is_at_work
from shared.ritual.attempts import unfinished
from shared.ritual.lease import Lease
from shared.ritual.ledger import Ritual

MAX_ATTEMPTS = 3
MAX_ERRORS = 4  # of attempts that never started a job, and of other steps that fail
STEPS = 80
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAITS = frozenset({State.INTENDED, State.VERIFIED, State.REGISTERED, State.AWAITING_APPROVAL})  # without the anvil


class Ability(StrEnum):
    """What the service that owns the stage can do."""

    ALL = "all"
    NOTHING = "nothing"  #: it is dead, or hung
    START = "start"  #: its job starts, and never ends
    CONCLUDE_NEVER = "conclude never"  #: its job ends, and the end cannot be recorded
    FAIL = "fail"  #: its job fails


class Held(StrEnum):
    FREE = "free"
    LIVE = "live"
    EXPIRED = "expired"


class Job(StrEnum):
    NONE = "none"
    RUNNING = "running"
    ENDED = "ended"
    LONG_ENDED = "long ended"


@dataclass(frozen=True)
class World:
    state: State
    held: Held
    own: bool  #: the lease is that of the present attempt
    job: Job
    cancelled: bool
    reclaimed: bool
    paused: bool = False
    attempt: int = 2
    failures: int = 0
    unstarted: int = 0
    errors: int = 0

    @property
    def ritual(self) -> Ritual:
        return Ritual(
            id=RITUAL,
            intent_id="one",
            persona="scribe",
            intent_body={},
            priority=5,
            state=self.state,
            version=0,
            attempt=self.attempt,
            trace_id=RITUAL.hex,
            parent_span_id=None,
            cancel_requested_at=NOW if self.cancelled else None,
            cancel_why=None,
            paused_at=NOW if self.paused else None,
            paused_why=None,
            created_at=NOW,
            entered_at=NOW,
            ended_at=None,
        )

    def after(self, fact: type[Fact]) -> World:
        """The world once a fact is recorded; the ledger takes only what leads on from the present state."""
        state = TRANSITIONS.get((self.state, fact), self.state)
        if fact is GpuInterrupted and state is not self.state:
            return replace(self, state=state, attempt=self.attempt + 1, own=False, errors=0)
        return replace(self, state=state, errors=0 if state is not self.state else self.errors)

    def lost(self, result: JobResult) -> World:
        """The world once GPU work ended without a result."""
        started = self.job is not Job.NONE
        count, most = (self.failures, MAX_ATTEMPTS) if started else (self.unstarted, MAX_ERRORS)
        fact = unfinished(self.ritual, result, count, most, started)
        after = self.after(type(fact))
        return replace(after, failures=count + 1) if started else replace(after, unstarted=count + 1)

    def freed(self) -> World:
        return replace(self, held=Held.FREE, own=False, job=Job.NONE)


RITUAL = uuid4()


def orchestrate(world: World, able: Ability) -> World:
    """One check of the anvil."""
    if world.held is Held.FREE:
        if world.state in HOLDS_ANVIL:
            return world.lost(EXPIRED)
        if world.state is not State.HARVESTED:
            return world
        if world.cancelled:
            return world.after(RitualCancelled)
        return world if world.paused else replace(world, held=Held.LIVE, own=True, reclaimed=False)
    held = Lease("anvil0", RITUAL, world.attempt if world.own else world.attempt - 1, 7, world.held is Held.LIVE)
    match choose_action(held, world.ritual, world.reclaimed):
        case Action.LEAVE:
            return world
        case Action.EVACUATE:
            return world.after(GpuRefused if able is Ability.FAIL else GpuEvacuated)
        case Action.INTERRUPT:
            return world.lost(EXPIRED).freed()
        case Action.YIELD:
            return world.after(GpuInterrupted).freed()
        case Action.TAKE_BACK:
            cancelled = world.state is State.HARVESTED and world.cancelled
            return (world.after(RitualCancelled) if cancelled else world).freed()


def work(world: World, able: Ability) -> World:
    """One pass of the service that owns the stage."""
    if able is Ability.NOTHING:
        return world
    if world.state in WAITS:
        return wait(world, able)
    if world.state not in HOLDS_ANVIL or world.held is not Held.LIVE or not world.own:
        return world
    if world.cancelled:
        return replace(world.after(RitualCancelled), job=Job.ENDED if world.job is Job.RUNNING else world.job)
    if world.job is Job.NONE:
        return replace(world, job=Job.RUNNING)
    if world.job is Job.RUNNING or able is Ability.CONCLUDE_NEVER:
        return world
    if able is Ability.FAIL:
        return replace(world.lost(JobResult(ok=False, error="no")), job=Job.NONE)
    return replace(world.after(AdapterForged if world.state is State.EVACUATED else AdapterVerified), job=Job.NONE)


def wait(world: World, able: Ability) -> World:
    """A stage without the anvil: it goes on, or meets errors until they end the ritual."""
    if world.cancelled:
        return world.after(RitualCancelled)
    if able in (Ability.FAIL, Ability.CONCLUDE_NEVER):
        errors = world.errors + 1
        return world.after(AdapterFailed) if errors >= MAX_ERRORS else replace(world, errors=errors)
    onward: dict[State, type[Fact]] = {
        State.VERIFIED: AdapterRegistered,
        State.REGISTERED: AdapterAwakened,
        State.AWAITING_APPROVAL: AdapterKept,
    }
    return world.after(onward.get(world.state, AdapterFailed))


def pass_time(world: World, able: Ability) -> World:
    """The job goes on, and the lease lives only while it is renewed."""
    ages = {Job.RUNNING: Job.ENDED, Job.ENDED: Job.LONG_ENDED}
    runs_on = able is Ability.START and world.job is Job.RUNNING
    job = world.job if runs_on else ages.get(world.job, world.job)
    evacuating = world.state is State.HARVESTED and world.own  # the orchestrator renews the lease itself
    renewed = able is not Ability.NOTHING and world.job is not Job.NONE and is_at_work(info(world.job))
    renewed = renewed or evacuating
    held = Held.EXPIRED if world.held is Held.LIVE and not renewed else world.held
    return replace(world, job=job, held=held)


def info(job: Job) -> ContainerInfo:
    running = job is Job.RUNNING
    ended_at = time() - (2 * CONCLUDE_WITHIN_S if job is Job.LONG_ENDED else 0)
    return ContainerInfo(
        name="job",
        state=ContainerState.RUNNING if running else ContainerState.EXITED,
        labels={},
        started_at=0.0,
        finished_at=None if running else ended_at,
    )


WORLDS = [
    World(*values)
    for values in product(State, Held, (True, False), Job, (True, False), (True, False))
    if values[0] not in ENDS or values[1] is not Held.FREE
]


def walk(world: World, able: Ability) -> list[World]:
    """The worlds one after another, until the ritual has ended and the anvil is free, or nothing changes any more."""
    seen = [world]
    while (world.state not in ENDS or world.held is not Held.FREE) and len(seen) < STEPS:
        for move in (orchestrate, work, pass_time):
            world = move(world, able)
        seen.append(world)
        if seen[-1] == seen[-2]:
            break
    return seen


@pytest.mark.parametrize("able", [Ability.ALL, Ability.FAIL, Ability.CONCLUDE_NEVER])
def test_every_ritual_ends_and_the_anvil_comes_free(able: Ability) -> None:
    for world in WORLDS:
        last = walk(world, able)[-1]
        assert last.state in ENDS and last.held is Held.FREE, (world, last)


def test_the_anvil_does_not_stay_with_a_service_that_is_dead() -> None:
    for world in WORLDS:
        way = walk(world, Ability.NOTHING)
        ended, waits = way[-1].state in ENDS, way[-1].state in WAITS
        assert way[-1].held is Held.FREE and (ended or waits), (world, way[-1])


def test_only_a_job_that_runs_keeps_the_anvil() -> None:
    """Such a job has its limits of time and of progress (shared/jobs/runner.py)."""
    for world in WORLDS:
        last = walk(world, Ability.START)[-1]
        kept = last.held is Held.LIVE and last.job is Job.RUNNING and last.state in HOLDS_ANVIL
        assert kept or (last.held is Held.FREE and (last.state in ENDS)), (world, last)


@pytest.mark.parametrize("able", Ability)
def test_a_paused_ritual_leaves_the_anvil_and_waits_and_ends_once_it_is_resumed(able: Ability) -> None:
    for world in WORLDS:
        paused = walk(replace(world, paused=True), able)[-1]
        assert paused.held is Held.FREE and paused.state not in HOLDS_ANVIL, (world, paused)
        if able in (Ability.NOTHING, Ability.START) or paused.state in ENDS:
            continue
        assert paused.state is State.HARVESTED and not paused.cancelled, (world, paused)
        assert walk(replace(paused, paused=False), able)[-1].state in ENDS, world
