"""The seven stages of a ritual with marks, what it does or waits for now, and how long inference is away. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from deploy.cli.format import short_id
from deploy.cli.queries.rituals import ListedRitual, Snapshot
from services.orchestrator.views import Handover, RecordedDecision, Step, Verdict
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.registry import AdapterProposed
from shared.contracts.ritual import ENDS, HOLDS_ANVIL, State
from shared.ritual.views import RecordedFact, RitualError, RitualStatus

STAGES = (
    *(State.INTENDED, State.HARVESTED, State.EVACUATED, State.FORGED),
    *(State.VERIFIED, State.REGISTERED, State.AWAKENED),
)
JOBS = {State.INTENDED: "harvest", State.EVACUATED: "trainer", State.FORGED: "evaluator"}
# What happens before a stage is reached.
UNDER_WAY = {
    State.HARVESTED: "the harvester compiles the manifest",
    State.EVACUATED: "waits for the anvil",
    State.FORGED: "the trainer starts",
    State.VERIFIED: "the evaluator starts",
    State.REGISTERED: "the registry freezes the bundle",
    State.AWAKENED: "waits for inference to load it and prove it",
}
RESUMES = "continues from its last checkpoint"
INTERRUPTED = "interrupted"
PAUSED = "paused"


class Mark(StrEnum):
    """How far a stage is."""

    DONE = "done"
    NOW = "now"
    FAILED = "failed"  #: the ritual ended before it
    AHEAD = "ahead"


@dataclass(frozen=True)
class Stage:
    """One stage. `name` is the state it leads to, or the state in which the ritual ended before it."""

    name: str
    mark: Mark


@dataclass(frozen=True)
class Interruption:
    """An attempt that ended early, while the ritual waits for the next one. `asked`: the anvil was reclaimed."""

    attempt: int
    at: datetime
    reason: str
    asked: bool


@dataclass(frozen=True)
class InferenceOutage:
    """Inference during a ritual: `seconds` without it so far, and whether it is away now."""

    away: bool
    seconds: float


def stages(snapshot: Snapshot) -> list[Stage]:
    """The seven stages in order. Stages of an interrupted attempt are ahead again."""
    done = 1 + len(_reached(snapshot.facts))
    found = [Stage(state, Mark.DONE) for state in STAGES[:done]]
    if ahead := STAGES[done:]:
        state = snapshot.ritual.state
        current = Stage(state, Mark.FAILED) if state in ENDS else Stage(ahead[0], Mark.NOW)
        found += [current, *(Stage(state, Mark.AHEAD) for state in ahead[1:])]
    return found


def _reached(facts: Iterable[RecordedFact]) -> list[State]:
    """The stages after the first that are reached, as far as they still count."""
    reached: dict[State, None] = {}
    for recorded in facts:
        if isinstance(recorded.fact, GpuInterrupted):
            for state in HOLDS_ANVIL:
                reached.pop(state, None)
        elif recorded.moved and recorded.state_after in STAGES:
            reached[State(recorded.state_after)] = None
    return list(reached)


def seconds_in_stage(snapshot: Snapshot) -> float:
    """How long the stage under way has taken so far."""
    return (snapshot.now - snapshot.ritual.entered_at).total_seconds()


def last_move(facts: Sequence[RecordedFact], state: str) -> RecordedFact | None:
    """The last fact that led into this state."""
    return next((fact for fact in reversed(facts) if fact.moved and fact.state_after == state), None)


def activity(snapshot: Snapshot) -> str:
    """What the ritual does or waits for before its next stage; empty once it has ended."""
    ritual = snapshot.ritual
    if ritual.state in ENDS:
        return ""
    if snapshot.errors:
        return error_text(snapshot.errors[0], snapshot.now)
    if ritual.cancel_requested_at:
        return "was asked to end; stops at its next safe point"
    if ritual.paused:
        return paused_text(ritual)
    if ritual.state is State.AWAITING_APPROVAL:
        return _approval(snapshot)
    if ritual.state is not State.HARVESTED:
        return UNDER_WAY[STAGES[STAGES.index(ritual.state) + 1]]
    if evacuation := _evacuation(ritual, snapshot.hand_overs):
        return evacuation
    waits = (wait_reason(ritual, snapshot.decision) or UNDER_WAY[State.EVACUATED]).rstrip(".")
    return f"{waits}; then {RESUMES}" if get_interruption(ritual, snapshot.facts) else waits


def paused_text(ritual: RitualStatus) -> str:
    """Why a ritual is paused, and what lets it go on."""
    why = f": {' '.join(ritual.paused_why.split())}" if ritual.paused_why else ""
    leaves = "; its job saves a checkpoint and ends" if ritual.state in HOLDS_ANVIL else ""
    return f"is paused{why}{leaves}; let it go on: soulforge resume {short_id(ritual.id)}"


def _approval(snapshot: Snapshot) -> str:
    """What a version waits for, and until when."""
    persona, last = snapshot.ritual.persona, last_move(snapshot.facts, State.AWAITING_APPROVAL)
    until = (
        f" until {last.fact.until.astimezone():%Y-%m-%d %H:%M}"
        if last and isinstance(last.fact, AdapterProposed)
        else ""
    )
    return f"waits for approval{until}: `soulforge approve {persona}` or `soulforge reject {persona}`"


def wait_reason(ritual: RitualStatus, decision: RecordedDecision | None) -> str | None:
    """Why the anvil is not taken yet; None where that was not decided since the ritual began to wait."""
    if ritual.state is not State.HARVESTED or not decision or decision.verdict is Verdict.NOW:
        return None
    return decision.reason if decision.decided_at >= ritual.entered_at else None


def _evacuation(ritual: RitualStatus, hand_overs: Iterable[Handover]) -> str | None:
    """The step under way of this attempt's evacuation."""
    own = [row for row in hand_overs if row.released_at is None and row.attempt == ritual.attempt]
    if not own:
        return None
    steps = [step for step in own[-1].steps if step.ended_at is None]
    if not steps:
        return "the anvil is evacuated"
    return f"the anvil is evacuated: {steps[-1].step} {steps[-1].part}".rstrip()


def get_interruption(ritual: RitualStatus, facts: Sequence[RecordedFact]) -> Interruption | None:
    """The interruption that the ritual waits after; None when it never was interrupted, or went on."""
    last = next((recorded for recorded in reversed(facts) if recorded.moved), None)
    if last is None or not isinstance(last.fact, GpuInterrupted) or ritual.state is not State.HARVESTED:
        return None
    return Interruption(last.fact.attempt, last.stated_at, last.fact.reason, last.fact.asked)


def error_text(error: RitualError, now: datetime) -> str:
    """What keeps a ritual from going on, and when that is tried again."""
    times = "an error" if error.count == 1 else f"{error.count} errors in a row"
    again = max((error.retry_at - now).total_seconds(), 0.0)
    return f"the {error.owner} met {times}: {error.error}; it tries again {f'in {again:.0f} s' if again else 'now'}"


def unisolated_now(snapshot: Snapshot) -> str | None:
    """That the jobs of an open ritual run unisolated, and why; None where they do not."""
    if snapshot.unisolated is None or snapshot.ritual.ended_at:
        return None
    return f"jobs run UNISOLATED, as allow_unisolated under [jobs] permits: {snapshot.unisolated}"


def asked_for(asked: bool) -> str:
    return "asked for" if asked else "not asked for"


def shown_state(ritual: ListedRitual) -> str:
    """The state for people: a paused ritual is paused, one that waits after an interruption interrupted, not harvested."""
    if ritual.paused:
        return PAUSED
    return INTERRUPTED if ritual.interruption is not None else str(ritual.state)


def inference_outage(hand_overs: Iterable[Handover], now: datetime) -> InferenceOutage | None:
    """None while the ritual never took inference down."""
    taken = [(row, closed_at) for row in hand_overs if (closed_at := _closed_at(row))]
    if not taken:
        return None
    away = [closed_at for row, closed_at in taken if row.restored_at is None]
    seconds = sum(row.seconds_without_inference or 0.0 for row, _ in taken if row.restored_at)
    seconds += sum((now - closed_at).total_seconds() for closed_at in away)
    return InferenceOutage(bool(away), seconds)


def _closed_at(row: Handover) -> datetime | None:
    """When the first rune admitted no request any more; it is announced earlier, while worker queues drain."""
    closed = [step.began_at for step in row.steps if step.step is Step.CLOSE]
    return min(closed, default=None if row.steps and not row.released_at else row.suspended_at)


def is_over(snapshot: Snapshot) -> bool:
    """True when the ritual has ended and whatever inference it took down is back."""
    back = all(row.restored_at for row in snapshot.hand_overs if row.suspended_at)
    return snapshot.ritual.ended_at is not None and back


def running_job(ritual: RitualStatus) -> str | None:
    """The role of the job that may run in the ritual's state."""
    return JOBS.get(ritual.state)
