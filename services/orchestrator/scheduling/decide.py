"""The tipping point: weigh every waiting ritual against the measured load, into now, wait or refused.

In this order: the time it may wait, the hard budget, urgency, the policy, and the deadline that may overrule the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.orchestrator.scheduling.decision import Cause, Decision, Measures, Verdict, duration_text, start, wait
from services.orchestrator.scheduling.idle import decide_idle
from services.orchestrator.scheduling.limits import apply_deadline, check_budget, check_expired
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import QueuedRitual, aging, ordered
from services.orchestrator.scheduling.window import decide_window
from shared.config.tipping import TippingConfig


def decide_queue(
    waiting: Mapping[UUID, tuple[QueuedRitual, Load]], config: TippingConfig
) -> list[tuple[QueuedRitual, Decision]]:
    """Decide about every waiting ritual of an anvil, in the order of the queue; at most one goes now.

    The budget is offered in that order: what earlier rituals will need is reserved for them. Else small rituals
    could use it up every day before a large one that waits for its window.
    """
    decisions: list[tuple[QueuedRitual, Decision]] = []
    chosen: QueuedRitual | None = None
    reserved_s = 0.0
    for ritual in ordered((ritual for ritual, _ in waiting.values()), config.promote_after_s):
        load = waiting[ritual.id][1].model_copy(update={"reserved_s": reserved_s})
        decision = decide(ritual, load, config)
        if decision.verdict is Verdict.NOW and chosen:
            decision = _behind(chosen, decision)
        elif decision.verdict is Verdict.NOW:
            chosen = ritual
        if decision.verdict is not Verdict.REFUSED:
            reserved_s += _expected_s(load, config)
        decisions.append((ritual, decision))
    return decisions


def decide(ritual: QueuedRitual, load: Load, config: TippingConfig) -> Decision:
    """Total and monotone: more priority or less load never turns now into anything else, nor changes a refusal."""
    expected_s = _expected_s(load, config)
    decision = (
        check_expired(ritual, load.now, config)
        or check_budget(ritual, load, expected_s, config)
        or apply_deadline(_by_policy(ritual, load, expected_s, config), ritual, load, expected_s, config)
    )
    return decision.model_copy(update={"measures": _measures(ritual, load, expected_s, config)})


def _by_policy(ritual: QueuedRitual, load: Load, expected_s: float, config: TippingConfig) -> Decision:
    if ritual.priority >= config.urgent_from:
        reason = f"priority {ritual.priority}; from {config.urgent_from} on a ritual does not wait for the policy"
        return start(Cause.URGENT, reason)
    match config.policy:
        case "immediate":
            return start(Cause.IMMEDIATE, f"the policy is to start at once; {duration_text(expected_s)} are expected")
        case "idle":
            return decide_idle(ritual, load, config)
        case "window":
            return decide_window(ritual, load, expected_s, config)


def _behind(chosen: QueuedRitual, decision: Decision) -> Decision:
    behind = wait(Cause.BEHIND, f"ritual {str(chosen.id)[:8]} goes first")
    return behind.model_copy(update={"measures": decision.measures})


def _expected_s(load: Load, config: TippingConfig) -> float:
    return config.expected_away_s if load.expected_away_s is None else load.expected_away_s


def _measures(ritual: QueuedRitual, load: Load, expected_s: float, config: TippingConfig) -> Measures:
    return {
        "policy": config.policy,
        "now": load.now.astimezone(config.zone).isoformat(),
        "priority": ritual.priority,
        "weight": ritual.weight,
        "waited_s": ritual.waited_s(load.now),
        "aging": aging(ritual, load.now, config),
        "deadline": ritual.deadline.isoformat() if ritual.deadline else None,
        **load.traffic.model_dump(),
        "queued_jobs": load.queued_jobs,
        "expected_away_s": expected_s,
        "away_today_s": load.away_today_s,
        "reserved_s": load.reserved_s,
        "away_budget_s": config.away_budget_s,
    }
