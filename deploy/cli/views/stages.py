"""The way of a ritual as a person sees it: seven stages with marks and times, from rows of the ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from deploy.cli.format import duration
from deploy.cli.views.fact_text import saying
from shared.contracts.ritual import ENDS, HOLDS_ANVIL, State

Row = dict[str, Any]

WAY = (State.INTENDED, State.HARVESTED, State.EVACUATED, State.FORGED, State.VERIFIED, State.REGISTERED, State.AWAKENED)
WAITED_S = 1.0  # less than that between two stages is not called waiting

JOBS = {State.INTENDED: "harvest", State.EVACUATED: "trainer", State.FORGED: "evaluator"}


class Mark(StrEnum):
    """Where a stage stands."""

    DONE = "done"
    NOW = "now"
    BROKEN = "broken"  #: the ritual ended here
    AHEAD = "ahead"


@dataclass(frozen=True)
class Stage:
    """One line of the way. `seconds` is what it took, or takes so far; `name` is the state it leads to."""

    state: State
    name: str
    mark: Mark
    seconds: float | None = None
    text: str = ""


def stages(
    ritual: Row, facts: list[Row], hand_overs: list[Row], now: datetime, tipping: Row | None = None
) -> list[Stage]:
    """The seven stages in order. Stages of an interrupted attempt are ahead again."""
    reached = _reached(facts)
    way = [Stage(State.INTENDED, State.INTENDED, Mark.DONE, None, _asked(ritual))]
    since, over = ritual["created_at"], False
    for state in WAY[1:]:
        if over:
            way.append(Stage(state, state, Mark.AHEAD))
        elif fact := reached.get(state):
            way.append(_told(state, Mark.DONE, fact, since))
            since = fact["stated_at"]
        else:
            way.append(_current(state, ritual, facts, since, now, doing(state, ritual, facts, hand_overs, tipping)))
            over = True
    return way


def _reached(facts: list[Row]) -> dict[str, Row]:
    """The fact that led to each state, as far as it still counts."""
    reached: dict[str, Row] = {}
    for fact in facts:
        if fact["subject"] == "gpu.interrupted":
            for state in HOLDS_ANVIL:
                reached.pop(state, None)
        elif fact["state_before"] != fact["state_after"]:
            reached[fact["state_after"]] = fact
    return reached


def led_to(facts: list[Row], state: str) -> Row | None:
    """The last fact that led into this state; facts that only inform are passed over."""
    return next((fact for fact in reversed(facts) if fact["state_after"] == state != fact["state_before"]), None)


def _told(state: State, mark: Mark, fact: Row, since: datetime) -> Stage:
    began = max(since, fact["started_at"])
    waited = (began - since).total_seconds()
    text = saying(fact["subject"], fact["body"])
    if waited > WAITED_S and state is State.EVACUATED:
        text = f"{text}, after {duration(waited)} in the queue"
    return Stage(state, fact["state_after"], mark, (fact["stated_at"] - began).total_seconds(), text)


def _current(state: State, ritual: Row, facts: list[Row], since: datetime, now: datetime, text: str) -> Stage:
    """The stage the ritual is in, or where it ended."""
    if ritual["state"] in ENDS:
        last = led_to(facts, ritual["state"])
        return _told(state, Mark.BROKEN, last, since) if last else Stage(state, ritual["state"], Mark.BROKEN)
    # After an interruption the state was entered later than the last fact that still counts.
    began = max(since, ritual["entered_at"])
    return Stage(state, state, Mark.NOW, (now - began).total_seconds(), text)


def _asked(ritual: Row) -> str:
    intent = ritual["intent"]
    said = f"recipe {intent.get('recipe', 'default')}, priority {ritual['priority']}"
    by, why = intent.get("requested_by"), intent.get("why")
    return said + (f", by {by}" if by else "") + (f": {why}" if why else "")


@dataclass(frozen=True)
class Inference:
    """Inference during a ritual: `seconds` without it so far, and whether it is away now."""

    away: bool
    seconds: float


def inference(hand_overs: list[Row], now: datetime) -> Inference | None:
    """None while the ritual never took inference down."""
    taken = [(row, closed_at) for row in hand_overs if (closed_at := _closed_at(row))]
    if not taken:
        return None
    away = [closed_at for row, closed_at in taken if row["restored_at"] is None]
    seconds = sum(row["seconds_without_inference"] or 0.0 for row, _ in taken if row["restored_at"])
    seconds += sum((now - closed_at).total_seconds() for closed_at in away)
    return Inference(bool(away), seconds)


def _closed_at(row: Row) -> datetime | None:
    """When the first rune admitted no request any more; it is announced earlier, while worker queues drain."""
    closed = [step["began_at"] for step in row["steps"] if step["step"] == "close"]
    suspended_at: datetime | None = row["suspended_at"]
    return min(closed, default=None if row["steps"] and not row["released_at"] else suspended_at)


def is_over(ritual: Row, hand_overs: list[Row]) -> bool:
    """True when the ritual has ended and whatever inference it took down is back."""
    back = all(row["restored_at"] for row in hand_overs if row["suspended_at"])
    return ritual["ended_at"] is not None and back


def job_now(ritual: Row) -> str | None:
    """The role of the job that may run in the ritual's state."""
    return JOBS.get(State(ritual["state"]))


# What happens before a stage is reached.
UNDER_WAY = {
    State.HARVESTED: "the harvester compiles the manifest",
    State.EVACUATED: "waits for the anvil",
    State.FORGED: "the trainer starts",
    State.VERIFIED: "the evaluator starts",
    State.REGISTERED: "the registry freezes the bundle",
    State.AWAKENED: "waits for inference to load it and prove it",
}
RESUMES = "goes on from its last checkpoint"
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Interruption:
    """An attempt that ended early, while the ritual waits for the next one. `asked`: somebody wanted the anvil back."""

    attempt: int
    at: datetime
    reason: str
    asked: bool


def interruption(ritual: Row, facts: list[Row]) -> Interruption | None:
    """The interruption that the ritual waits after; None when it never was interrupted, or went on."""
    moved = [fact for fact in facts if fact["state_before"] != fact["state_after"]]
    if not moved or moved[-1]["subject"] != "gpu.interrupted" or ritual["state"] != State.HARVESTED:
        return None
    last = moved[-1]
    return Interruption(last["attempt"], last["stated_at"], last["body"].get("reason", ""), was_asked(last["body"]))


def was_asked(body: Row) -> bool:
    return bool(body.get("asked"))


def asked_for(asked: bool) -> str:
    return "asked for" if asked else "not asked for"


def shown_state(ritual: Row) -> str:
    """The state for people, of a row that holds its `interruption`: one that waits after one is interrupted, not harvested."""
    return INTERRUPTED if ritual["interruption"] is not None else str(ritual["state"])


def doing(state: State, ritual: Row, facts: list[Row], hand_overs: list[Row], tipping: Row | None) -> str:
    """What happens before `state` is reached."""
    if ritual["cancel_requested_at"]:
        return "was asked to end; stops at its next safe point"
    if state is not State.EVACUATED:
        return UNDER_WAY[state]
    if under_way := _evacuating(ritual, hand_overs):
        return under_way
    waits = (held_back(ritual, tipping) or UNDER_WAY[state]).rstrip(".")
    return f"{waits}; then {RESUMES}" if interruption(ritual, facts) else waits


def held_back(ritual: Row, tipping: Row | None) -> str | None:
    """Why the anvil is not taken yet; None where that was not decided since the ritual began to wait."""
    if ritual["state"] != State.HARVESTED or not tipping or tipping["verdict"] == "now":
        return None
    return tipping["reason"] if tipping["decided_at"] >= ritual["entered_at"] else None


def _evacuating(ritual: Row, hand_overs: list[Row]) -> str | None:
    """The step of an evacuation that goes on for this attempt."""
    mine = [row for row in hand_overs if row["released_at"] is None and row["attempt"] == ritual["attempt"]]
    if not mine:
        return None
    steps = [step for step in mine[-1]["steps"] if step["ended_at"] is None]
    if not steps:
        return "the anvil is evacuated"
    return f"the anvil is evacuated: {steps[-1]['step']} {steps[-1]['part']}".rstrip()
