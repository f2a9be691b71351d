"""The way of a ritual as a person sees it: seven stages with marks and times, from rows of the ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from deploy.cli.format import duration
from deploy.cli.views.fact_text import saying
from deploy.cli.views.waiting import doing
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
