"""Patience that ends: a deadline pulls a wait to now while it can still be met, and refuses what came too late."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.orchestrator.scheduling.decision import Cause, Decision, Verdict, go, refuse, say, span
from services.orchestrator.scheduling.load import Reflexes
from services.orchestrator.scheduling.queue import Whim
from shared.configuration.model import TippingConfig


def expired(whim: Whim, now: datetime, config: TippingConfig) -> Decision | None:
    """The refusal of a ritual that waited in vain. Depends on time alone, never on load or priority."""
    if whim.deadline is not None and whim.deadline <= now:
        ended = say(whim.deadline, now, config.zone)
        return refuse(Cause.DEADLINE, f"its deadline {ended} has passed; ask again with a later one or none")
    waited_s, limit_s = whim.waited_s(now), config.refuse_after_s
    if limit_s is not None and waited_s > limit_s:
        return refuse(
            Cause.TIRED,
            f"it has waited for {span(waited_s)}, the limit is {span(limit_s)}: ask again, with a higher priority "
            "if it matters, or raise refuse_after_s under [tipping] in soulforge.toml",
        )
    return None


def pull(decision: Decision, whim: Whim, reflexes: Reflexes, expected_s: float, config: TippingConfig) -> Decision:
    """The policy's decision, unless waiting on would miss the deadline."""
    if decision.verdict is Verdict.NOW or whim.deadline is None:
        return decision
    now, zone = reflexes.now, config.zone
    latest, ends = whim.deadline - timedelta(seconds=expected_s), say(whim.deadline, now, zone)
    if latest <= now:
        late_s = (now - latest).total_seconds()
        late = f", so it may end {span(late_s)} late" if late_s >= 1 else ""
        return go(Cause.DEADLINE, f"its deadline is {ends} and {span(expected_s)} are expected{late}")
    return decision.model_copy(
        update={
            "reason": f"{decision.reason}; for its deadline {ends} it starts at {say(latest, now, zone)} at the latest",
            "until": min(decision.until, latest) if decision.until else None,
            "look_again_at": min(decision.look_again_at or latest, latest),
        }
    )
