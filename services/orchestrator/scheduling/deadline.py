"""Limits of waiting: a deadline turns a wait into now while it can still be met, and refuses a ritual that is too late."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.orchestrator.scheduling.decision import (
    Cause,
    Decision,
    Verdict,
    clock_text,
    duration_text,
    refuse,
    start,
)
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import QueuedRitual
from shared.config.model import TippingConfig


def check_expired(ritual: QueuedRitual, now: datetime, config: TippingConfig) -> Decision | None:
    """The refusal of a ritual whose time is over, or None. Depends on time alone, never on load or priority."""
    if ritual.deadline is not None and ritual.deadline <= now:
        ended = clock_text(ritual.deadline, now, config.zone)
        return refuse(Cause.DEADLINE, f"its deadline {ended} has passed; ask again with a later one or none")
    waited_s, limit_s = ritual.waited_s(now), config.refuse_after_s
    if limit_s is not None and waited_s > limit_s:
        return refuse(
            Cause.TIMED_OUT,
            f"it has waited for {duration_text(waited_s)}, the limit is {duration_text(limit_s)}: ask again, with a "
            "higher priority if it matters, or raise refuse_after_s under [tipping] in soulforge.toml",
        )
    return None


def apply_deadline(
    decision: Decision, ritual: QueuedRitual, load: Load, expected_s: float, config: TippingConfig
) -> Decision:
    """The policy's decision, unless waiting longer would miss the deadline."""
    if decision.verdict is Verdict.NOW or ritual.deadline is None:
        return decision
    now, zone = load.now, config.zone
    latest, ends = ritual.deadline - timedelta(seconds=expected_s), clock_text(ritual.deadline, now, zone)
    if latest <= now:
        late_s = (now - latest).total_seconds()
        late = f", so it may end {duration_text(late_s)} late" if late_s >= 1 else ""
        return start(Cause.DEADLINE, f"its deadline is {ends} and {duration_text(expected_s)} are expected{late}")
    starts = f"for its deadline {ends} it starts at {clock_text(latest, now, zone)} at the latest"
    return decision.model_copy(
        update={
            "reason": f"{decision.reason}; {starts}",
            "until": min(decision.until, latest) if decision.until else None,
        }
    )
