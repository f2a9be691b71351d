"""The limits of a waiting ritual: the daily budget of seconds without inference, the longest wait, and the deadline.

The whole estimate is charged to the day on which it begins, also where it ends on the next: no day is overdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil, isfinite
from statistics import median

from services.orchestrator.scheduling.decision import (
    Cause,
    Decision,
    Verdict,
    clock_text,
    day_bounds,
    duration_text,
    refuse,
    start,
    wait,
)
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import QueuedRitual
from shared.config.tipping import TippingConfig

QUANTILE = 0.9
FEWEST = 3  # with fewer receipts, the default fills in for the missing ones
TIMES_MEDIAN = 3.0  # one hand-over that hung must not refuse every later ritual
LONGEST_S = 366 * 86400.0


def estimate_away_s(past: Sequence[float], default: float) -> float:
    """Seconds that a hand-over will take: the 90 % quantile of past ones, at most three times their median."""
    seen = [seconds for seconds in past if isfinite(seconds) and seconds > 0]
    known = sorted(seen + [default] * (FEWEST - len(seen)))
    return min(known[ceil(QUANTILE * len(known)) - 1], TIMES_MEDIAN * median(known), LONGEST_S)


def check_budget(ritual: QueuedRitual, load: Load, expected_s: float, config: TippingConfig) -> Decision | None:
    """A refusal, a wait for the next day, or None where the budget allows a start."""
    budget_s = config.away_budget_s
    if budget_s is None:
        return None
    if expected_s > budget_s:
        return refuse(
            Cause.BUDGET,
            f"{duration_text(expected_s)} without inference are expected, the budget of a day is "
            f"{duration_text(budget_s)}: raise away_budget_s under [tipping] in soulforge.toml, "
            "or take a recipe that trains for less time",
        )
    if load.away_today_s + load.reserved_s + expected_s <= budget_s:
        return None
    return _next_day(ritual, load, expected_s, budget_s, config)


def _next_day(ritual: QueuedRitual, load: Load, expected_s: float, budget_s: float, config: TippingConfig) -> Decision:
    now, zone = load.now, config.zone
    begins = day_bounds(now, zone)[1]
    reserved = f" and {duration_text(load.reserved_s)} reserved for rituals before it" if load.reserved_s else ""
    late = ritual.deadline is not None and (ritual.deadline - begins).total_seconds() < expected_s
    missed = (
        f"; its deadline {clock_text(ritual.deadline, now, zone)} will be missed" if ritual.deadline and late else ""
    )
    return wait(
        Cause.BUDGET,
        f"{duration_text(expected_s)} without inference are expected; of the {duration_text(budget_s)} of a day, "
        f"{duration_text(load.away_today_s)} are spent{reserved}; the next day begins at "
        f"{clock_text(begins, now, zone)} ({config.timezone}){missed}",
        begins,
    )


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
