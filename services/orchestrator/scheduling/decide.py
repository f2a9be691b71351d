"""The tipping point: from what was measured and what a ritual wants to now, wait or refused.

In this order: the time it may wait, the hard budget, urgency, the policy, and the deadline that may overrule the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.orchestrator.scheduling import budget, deadline, idle, window
from services.orchestrator.scheduling.decision import (
    CALM_LOOK_S,
    Cause,
    Decision,
    Measures,
    Verdict,
    go,
    span,
    wait_for_calm,
)
from services.orchestrator.scheduling.load import Reflexes
from services.orchestrator.scheduling.queue import Whim, order, ripeness
from shared.configuration.model import TippingConfig


def choose(waiting: Mapping[UUID, tuple[Whim, Reflexes]], config: TippingConfig) -> list[tuple[Whim, Decision]]:
    """What every waiting ritual of an anvil is told, in the order of the queue; at most one goes now.

    The budget is offered in that order: what those before will need is kept for them. Else small rituals could
    eat it every day before a large one that waits for its window.
    """
    told: list[tuple[Whim, Decision]] = []
    chosen: Whim | None = None
    reserved_s = 0.0
    for whim in order((whim for whim, _ in waiting.values()), config.promote_after_s):
        reflexes = waiting[whim.ritual][1].model_copy(update={"reserved_s": reserved_s})
        decision = decide(whim, reflexes, config)
        if decision.verdict is Verdict.NOW and chosen:
            decision = _behind(chosen, decision, reflexes)
        elif decision.verdict is Verdict.NOW:
            chosen = whim
        if decision.verdict is not Verdict.REFUSED:
            reserved_s += _expected_s(reflexes, config)
        told.append((whim, decision))
    return told


def decide(whim: Whim, reflexes: Reflexes, config: TippingConfig) -> Decision:
    """Total; monotone: more priority or less load never turns now into anything else, and refusal never depends on either."""
    expected_s = _expected_s(reflexes, config)
    decision = (
        deadline.expired(whim, reflexes.now, config)
        or budget.hold(whim, reflexes, expected_s, config)
        or deadline.pull(_by_policy(whim, reflexes, expected_s, config), whim, reflexes, expected_s, config)
    )
    measures = {"cause": decision.cause, **_measures(whim, reflexes, expected_s, config)}
    return decision.model_copy(update={"measures": measures})


def _by_policy(whim: Whim, reflexes: Reflexes, expected_s: float, config: TippingConfig) -> Decision:
    if whim.priority >= config.urgent_from:
        return go(Cause.URGENT, f"priority {whim.priority}, and from {config.urgent_from} on none waits for a policy")
    match config.policy:
        case "immediate":
            return go(Cause.IMMEDIATE, f"the policy is to start at once; {span(expected_s)} are expected")
        case "idle":
            return idle.decide(whim, reflexes, config)
        case "window":
            return window.decide(whim, reflexes, expected_s, config)


def _behind(chosen: Whim, decision: Decision, reflexes: Reflexes) -> Decision:
    wait = wait_for_calm(Cause.BEHIND, reflexes.now, CALM_LOOK_S, f"ritual {str(chosen.ritual)[:8]} goes first")
    return wait.model_copy(update={"measures": {**decision.measures, "cause": wait.cause}})


def _expected_s(reflexes: Reflexes, config: TippingConfig) -> float:
    return config.expected_away_s if reflexes.expected_away_s is None else reflexes.expected_away_s


def _measures(whim: Whim, reflexes: Reflexes, expected_s: float, config: TippingConfig) -> Measures:
    return {
        "policy": config.policy,
        "now": reflexes.now.astimezone(config.zone).isoformat(),
        "priority": whim.priority,
        "weight": whim.weight,
        "waited_s": whim.waited_s(reflexes.now),
        "ripeness": ripeness(whim, reflexes.now, config),
        "deadline": whim.deadline.isoformat() if whim.deadline else None,
        **reflexes.pulse.model_dump(),
        "queued": reflexes.queued,
        "expected_away_s": expected_s,
        "away_today_s": reflexes.away_today_s,
        "reserved_s": reflexes.reserved_s,
        "away_budget_s": config.away_budget_s,
    }
