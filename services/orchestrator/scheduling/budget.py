"""The seconds without inference: how many a hand-over will take, and whether the day has them left.

The whole estimate is charged to the day on which it begins, also where it ends on the next: no day is overdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite
from statistics import median

from services.orchestrator.scheduling.decision import Cause, Decision, day, refuse, say, span, wait_until
from services.orchestrator.scheduling.load import Reflexes
from services.orchestrator.scheduling.queue import Whim
from shared.configuration.model import TippingConfig

QUANTILE = 0.9
FEWEST = 3  # below which the default stands for receipts that are missing
TIMES_MEDIAN = 3.0  # one hand-over that hung must not refuse a persona for good
LONGEST_S = 366 * 86400.0


def estimate(past: Sequence[float], default: float) -> float:
    """Seconds that a hand-over will take: the 90 % quantile of past ones, at most three times their median."""
    seen = [seconds for seconds in past if isfinite(seconds) and seconds > 0]
    known = sorted(seen + [default] * (FEWEST - len(seen)))
    return min(known[ceil(QUANTILE * len(known)) - 1], TIMES_MEDIAN * median(known), LONGEST_S)


def hold(whim: Whim, reflexes: Reflexes, expected_s: float, config: TippingConfig) -> Decision | None:
    """A refusal, a wait for the next day, or None where the budget allows a start."""
    budget_s = config.away_budget_s
    if budget_s is None:
        return None
    if expected_s > budget_s:
        return refuse(
            Cause.BUDGET,
            f"{span(expected_s)} without inference are expected, the budget of a day is {span(budget_s)}: "
            "raise away_budget_s under [tipping] in soulforge.toml, or take a recipe that trains for less time",
        )
    if reflexes.away_today_s + reflexes.reserved_s + expected_s <= budget_s:
        return None
    return _next_day(whim, reflexes, expected_s, budget_s, config)


def _next_day(whim: Whim, reflexes: Reflexes, expected_s: float, budget_s: float, config: TippingConfig) -> Decision:
    now, zone = reflexes.now, config.zone
    begins = day(now, zone)[1]
    kept = f" and {span(reflexes.reserved_s)} kept for rituals before it" if reflexes.reserved_s else ""
    late = whim.deadline is not None and (whim.deadline - begins).total_seconds() < expected_s
    missed = f"; its deadline {say(whim.deadline, now, zone)} will be missed" if whim.deadline and late else ""
    return wait_until(
        Cause.BUDGET,
        now,
        begins,
        f"{span(expected_s)} without inference are expected; of the {span(budget_s)} of a day, "
        f"{span(reflexes.away_today_s)} are spent{kept}; the next day begins at {say(begins, now, zone)} "
        f"({config.timezone}){missed}",
    )
