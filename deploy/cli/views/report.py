"""A ritual as one document: what `soulforge show --json` prints.

The shape is stable: fields are added, never renamed. Times are ISO 8601 in UTC, memory is in bytes, durations are in
seconds. `states[].details` is the body of each fact but for its timing spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from deploy.cli.queries.rituals import Snapshot
from deploy.cli.views.fact_text import end_reason, unisolated_jobs
from deploy.cli.views.receipt import HandOverReport, build_receipt
from deploy.cli.views.stages import error_text, get_interruption, last_move, unisolated_now
from services.orchestrator import views as orchestrator
from services.orchestrator.views import Handover
from shared.contracts.forge import AdapterForged
from shared.contracts.frozen import Frozen
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import Refinement
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterRegistered
from shared.contracts.verify import AdapterBanished, Decision, Judged, Verdict
from shared.ritual.views import RecordedFact


class StateReport(Frozen):
    """One recorded fact. `state` is the ritual's state from then on."""

    fact: str
    state: str
    owner: str
    attempt: int
    started_at: datetime
    stated_at: datetime
    details: dict[str, Any]


class TippingReport(Frozen):
    """The last decision about when the ritual takes the anvil: `now`, `wait` or `refused`, and from which measures."""

    verdict: orchestrator.Verdict
    reason: str
    until: datetime | None
    measures: orchestrator.Measures
    decided_at: datetime


class InterruptedReport(Frozen):
    """The attempt that ended early; the ritual waits for the next one. `asked`: the anvil was reclaimed."""

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
    intent: dict[str, Any] = Field(description="The intent as it is recorded.")
    created_at: datetime
    ended_at: datetime | None
    seconds: float = Field(description="From the intent to the end, or to now.")
    cancel_requested_at: datetime | None
    paused_at: datetime | None = Field(description="Since when it takes no anvil, or null where it is not paused.")
    paused_why: str | None
    reason: str | None = Field(description="Why it ended without an adapter that serves, or null.")
    errors: tuple[str, ...] = Field(description="What keeps it from going on, while a service meets errors with it.")
    unisolated: tuple[str, ...] = Field(description="The jobs that ran unisolated, and why those to come would.")
    states: tuple[StateReport, ...]
    digests: dict[str, str] = Field(description="manifest, holdout, adapter, base: as far as they exist.")
    counts: dict[str, int] = Field(description="Records: train, dev, held_out, seen, excluded.")
    excluded: dict[str, int] = Field(description="Records left out, by reason.")
    contradictions: tuple[tuple[str, str], ...] = Field(
        description="Pairs of used records that answer the same prompt in ways that exclude each other, by id."
    )
    decision: Decision | None = Field(description="promote, banish, inconclusive, or null before the verdict.")
    reasons: tuple[str, ...]
    refines: UUID | None = Field(description="The banished ritual that it refines, or null.")
    suggested: Refinement | None = Field(description="A gentler recipe for one that was banished, or null.")
    scores: Verdict | None = Field(description="The verdict: both arms with intervals, and the policy; null before it.")
    version: str | None = Field(description="The name that the engine serves the adapter by.")
    seconds_without_inference: float | None = Field(
        description="Over all hand-overs that ended; null when there was none."
    )
    hand_overs: tuple[HandOverReport, ...]
    interrupted: InterruptedReport | None = Field(
        description="Set while the ritual waits to continue from its checkpoint after an interruption."
    )
    tipping: TippingReport | None = Field(description="When it takes the anvil, and why; null before it was decided.")
    trace_id: str
    trace_url: str


def build_report(
    snapshot: Snapshot, excluded: dict[str, int], phoenix_url: str, contradictions: Sequence[tuple[str, str]] = ()
) -> RitualReport:
    """Build the report of a snapshot; `excluded` counts records by the reason why they were left out."""
    ritual = snapshot.ritual
    facts = {type(recorded.fact): recorded.fact for recorded in snapshot.facts}
    judged = next((fact for fact in facts.values() if isinstance(fact, Judged)), None)
    registered = facts.get(AdapterRegistered)
    interruption = get_interruption(ritual, snapshot.facts)
    return RitualReport(
        ritual=ritual.id,
        persona=ritual.persona,
        state=ritual.state,
        attempt=ritual.attempt,
        priority=ritual.priority,
        intent=ritual.intent_body,
        created_at=ritual.created_at,
        ended_at=ritual.ended_at,
        seconds=((ritual.ended_at or ritual.now) - ritual.created_at).total_seconds(),
        cancel_requested_at=ritual.cancel_requested_at,
        paused_at=ritual.paused_at if ritual.paused else None,
        paused_why=ritual.paused_why if ritual.paused else None,
        reason=_reason(snapshot),
        errors=tuple(error_text(error, snapshot.now) for error in snapshot.errors),
        unisolated=(*unisolated_jobs(snapshot.facts), *filter(None, [unisolated_now(snapshot)])),
        states=tuple(_state(recorded) for recorded in snapshot.facts),
        digests=_digests(facts),
        counts=_counts(facts, excluded),
        excluded=excluded,
        contradictions=tuple(contradictions),
        decision=judged.decision if judged else None,
        reasons=judged.reasons if judged else (),
        refines=ritual.intent_body.get("refines"),
        suggested=judged.suggested if isinstance(judged, AdapterBanished) else None,
        scores=judged.verdict if judged else None,
        version=registered.version if isinstance(registered, AdapterRegistered) else None,
        seconds_without_inference=_seconds_without_inference(snapshot.hand_overs),
        hand_overs=tuple(build_receipt(row, ritual.now) for row in snapshot.hand_overs),
        interrupted=InterruptedReport(**asdict(interruption)) if interruption else None,
        tipping=TippingReport(**asdict(snapshot.decision)) if snapshot.decision else None,
        trace_id=ritual.trace_id,
        trace_url=trace_url(phoenix_url, ritual.trace_id),
    )


def trace_url(phoenix_url: str, trace_id: str) -> str:
    """Where Phoenix shows the trace: its own redirect, which finds the project by the trace's id."""
    return f"{phoenix_url.rstrip('/')}/redirects/traces/{trace_id}"


def _state(recorded: RecordedFact) -> StateReport:
    details = recorded.fact.details()
    details.pop("spans", None)
    return StateReport(
        fact=recorded.fact.subject,
        state=recorded.state_after,
        owner=recorded.owner,
        attempt=recorded.fact.attempt,
        started_at=recorded.started_at,
        stated_at=recorded.stated_at,
        details=details,
    )


def _reason(snapshot: Snapshot) -> str | None:
    """What the fact that ended the ritual gave as its reason."""
    last = last_move(snapshot.facts, snapshot.ritual.state)
    return end_reason(last.fact) if last else None


def _digests(facts: Mapping[type[Fact], Fact]) -> dict[str, str]:
    harvested, forged = facts.get(KarmaHarvested), facts.get(AdapterForged)
    digests: dict[str, str] = {}
    if isinstance(harvested, KarmaHarvested):
        digests |= {"manifest": harvested.manifest, "holdout": harvested.holdout}
    if isinstance(forged, AdapterForged):
        digests |= {"adapter": forged.adapter, "base": forged.base}
    return digests


def _counts(facts: Mapping[type[Fact], Fact], excluded: dict[str, int]) -> dict[str, int]:
    left_out = {"excluded": sum(excluded.values())}
    for fact in facts.values():
        if isinstance(fact, KarmaHarvested):
            counts = {"train": fact.train, "dev": fact.dev, "held_out": fact.held_out, "seen": fact.seen}
            return counts | left_out
        if isinstance(fact, KarmaRefused):
            return {"seen": fact.seen} | left_out
    return {}


def _seconds_without_inference(hand_overs: Iterable[Handover]) -> float | None:
    seconds = [row.seconds_without_inference for row in hand_overs if row.seconds_without_inference is not None]
    return sum(seconds) if seconds else None
