"""A ritual as one document, from the ledger's rows: what `soulforge show --json` prints.

The shape is stable: fields are added, never renamed. Times are ISO 8601 in UTC, memory is in bytes, durations are in
seconds. What a fact says stands in `states[].details` as it was stated, but for its timing spans.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from deploy.cli.views.receipt import HandOverReport, build_receipt
from deploy.cli.views.stages import Row, interruption, led_to
from shared.contracts.frozen import Frozen
from shared.contracts.ritual import ENDS, State

UNSERVED = ENDS - {State.AWAKENED}

DIGESTS = {
    "manifest": "karma.harvested",
    "holdout": "karma.harvested",
    "adapter": "adapter.forged",
    "base": "adapter.forged",
}
COUNTS = ("train", "dev", "held_out", "seen")
VERDICTS = ("adapter.verified", "adapter.banished")
HARVESTS = ("karma.harvested", "karma.refused")


class StateReport(Frozen):
    """One fact that was stated. `state` is the ritual's state from then on."""

    fact: str
    state: str
    owner: str
    attempt: int
    started_at: datetime
    stated_at: datetime
    details: dict[str, Any]


class TippingReport(Frozen):
    """What was last decided about when the ritual takes the anvil: `now`, `wait` or `refused`, and from which measures."""

    verdict: str
    reason: str
    until: datetime | None
    measures: dict[str, Any]
    decided_at: datetime


class InterruptedReport(Frozen):
    """The attempt that ended early; the ritual waits for the next one. `asked`: somebody wanted the anvil back."""

    attempt: int
    at: datetime
    reason: str
    asked: bool


class RitualReport(Frozen):
    """Everything the ledger knows of one ritual."""

    ritual: UUID
    persona: str
    state: str
    attempt: int
    priority: int
    intent: dict[str, Any]
    created_at: datetime
    ended_at: datetime | None
    seconds: float = Field(description="From the intent to the end, or to now.")
    cancel_requested_at: datetime | None
    reason: str | None = Field(description="Why it ended without an adapter that serves, or null.")
    states: tuple[StateReport, ...]
    digests: dict[str, str] = Field(description="manifest, holdout, adapter, base: as far as they exist.")
    counts: dict[str, int] = Field(description="Records: train, dev, held_out, seen, excluded.")
    excluded: dict[str, int] = Field(description="Records left out, by reason.")
    decision: str | None = Field(description="promote, banish, inconclusive, or null before the verdict.")
    reasons: tuple[str, ...]
    scores: dict[str, Any] = Field(
        description="The verdict as it was stated: both arms with intervals, and the policy."
    )
    version: str | None = Field(description="The name that the engine serves the adapter by.")
    seconds_without_inference: float | None = Field(
        description="Over all hand-overs that ended; null when there was none."
    )
    hand_overs: tuple[HandOverReport, ...]
    interrupted: InterruptedReport | None = Field(
        description="Set while the ritual waits to go on from its checkpoint after an interruption."
    )
    tipping: TippingReport | None = Field(description="When it takes the anvil, and why; null before it was decided.")
    trace_id: str
    trace_url: str


def build_report(
    ritual: Row,
    facts: list[Row],
    hand_overs: list[Row],
    excluded: dict[str, int],
    phoenix_url: str,
    tipping: Row | None = None,
) -> RitualReport:
    """Pure: the report of these rows."""
    said = {fact["subject"]: fact["body"] for fact in facts}
    verdict: Row = next((said[subject] for subject in VERDICTS if subject in said), {})
    return RitualReport(
        ritual=ritual["id"],
        persona=ritual["persona"],
        state=ritual["state"],
        attempt=ritual["attempt"],
        priority=ritual["priority"],
        intent=ritual["intent"],
        created_at=ritual["created_at"],
        ended_at=ritual["ended_at"],
        seconds=((ritual["ended_at"] or ritual["now"]) - ritual["created_at"]).total_seconds(),
        cancel_requested_at=ritual["cancel_requested_at"],
        reason=_reason(ritual, facts),
        states=tuple(_state(fact) for fact in facts),
        digests={name: said[fact][name] for name, fact in DIGESTS.items() if name in said.get(fact, {})},
        counts=_counts(said, excluded),
        excluded=excluded,
        decision=verdict.get("decision"),
        reasons=tuple(verdict.get("reasons", ())),
        scores=verdict.get("verdict", {}),
        version=said.get("adapter.registered", {}).get("version"),
        seconds_without_inference=_seconds_without_inference(hand_overs),
        hand_overs=tuple(build_receipt(row, ritual["now"]) for row in hand_overs),
        interrupted=_interrupted(ritual, facts),
        tipping=TippingReport(**tipping) if tipping else None,
        trace_id=ritual["trace_id"],
        trace_url=trace_url(phoenix_url, ritual["trace_id"]),
    )


def trace_url(phoenix_url: str, trace_id: str) -> str:
    """Where Phoenix shows the trace: its own redirect, which finds the project by the trace's id."""
    return f"{phoenix_url.rstrip('/')}/redirects/traces/{trace_id}"


def _state(fact: Row) -> StateReport:
    return StateReport(
        fact=fact["subject"],
        state=fact["state_after"],
        owner=fact["owner"],
        attempt=fact["attempt"],
        started_at=fact["started_at"],
        stated_at=fact["stated_at"],
        details={name: value for name, value in fact["body"].items() if name != "spans"},
    )


def _reason(ritual: Row, facts: list[Row]) -> str | None:
    """What the fact that ended the ritual gave as its reason."""
    last = led_to(facts, ritual["state"]) if ritual["state"] in UNSERVED else None
    if last is None:
        return None
    body = last["body"]
    return body.get("reason") or body.get("why") or " ".join(body.get("reasons", ())) or None


def _interrupted(ritual: Row, facts: list[Row]) -> InterruptedReport | None:
    found = interruption(ritual, facts)
    return InterruptedReport(**asdict(found)) if found else None


def _counts(said: dict[str, Row], excluded: dict[str, int]) -> dict[str, int]:
    body = next((said[subject] for subject in HARVESTS if subject in said), None)
    if body is None:
        return {}
    return {name: body[name] for name in COUNTS if name in body} | {"excluded": sum(excluded.values())}


def _seconds_without_inference(hand_overs: list[Row]) -> float | None:
    seconds = [row["seconds_without_inference"] for row in hand_overs if row["seconds_without_inference"] is not None]
    return sum(seconds) if seconds else None
