"""What a ritual does or waits for in the stage it is in, and whether it was interrupted before. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.contracts.ritual import State

Row = dict[str, Any]

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
