"""Policy `idle`: the anvil is taken when its runes get no requests, or fewer than the ritual's aging tolerates.

With aging a, from 0 to 1 (queue.py): quiet for idle_for_s · (1 - a), or at most busy_above + a / (1 - a) requests a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import floor, inf

from services.orchestrator.scheduling.decision import Cause, Decision, clock_text, duration_text, start, wait
from services.orchestrator.scheduling.load import Load, Traffic
from services.orchestrator.scheduling.queue import QueuedRitual, aged_after_s, aging
from shared.config.tipping import TippingConfig


@dataclass(frozen=True)
class Bar:
    """The threshold of load below which the anvil counts as idle for one ritual at one moment."""

    quiet_s: float  #: without a request
    per_minute: float  #: requests a minute, and as many at once
    by_rate: bool  #: whether a low rate counts as idle too

    def __str__(self) -> str:
        quiet = f"none for {duration_text(self.quiet_s)}"
        return f"at most {self.per_minute:.1f} a minute or {quiet}" if self.by_rate else quiet


def bar(aged: float, config: TippingConfig) -> Bar:
    """The bar at this aging; it only ever comes down as that grows."""
    tolerated = config.busy_above + (aged / (1 - aged) if aged < 1 else inf)
    # Where less than one request within idle_for_s is tolerated, only quiet can show it.
    return Bar(config.idle_for_s * (1 - aged), tolerated, tolerated * config.idle_for_s >= 60)


def decide_idle(ritual: QueuedRitual, load: Load, config: TippingConfig) -> Decision:
    aged, traffic = aging(ritual, load.now, config), load.traffic
    if aged >= 1:
        waited = duration_text(ritual.waited_s(load.now))
        return start(Cause.AGED, f"it has waited for {waited}; any load will do ({_traffic_text(traffic)})")
    idle = bar(aged, config)
    if _few_in_flight(load, idle) and _few_arrive(traffic, idle):
        return start(Cause.IDLE, f"{_traffic_text(traffic)}; idle means {idle}")
    return _wait(ritual, load, idle, config)


def _few_in_flight(load: Load, idle: Bar) -> bool:
    """Nothing is in flight or queued, or no more than would come in a tolerated minute."""
    in_flight, queued = load.traffic.in_flight, load.queued_jobs
    return in_flight is not None and queued is not None and in_flight + queued <= floor(idle.per_minute)


def _few_arrive(traffic: Traffic, idle: Bar) -> bool:
    """No request came for long enough, or they come at a tolerated rate over both horizons."""
    if traffic.quiet_s is not None and traffic.quiet_s >= idle.quiet_s:
        return True
    if not idle.by_rate or traffic.per_minute is None or traffic.per_minute_long is None:
        return False
    return max(traffic.per_minute, traffic.per_minute_long) <= idle.per_minute and traffic.watched_s >= idle.quiet_s


def _wait(ritual: QueuedRitual, load: Load, idle: Bar, config: TippingConfig) -> Decision:
    traffic, now, zone = load.traffic, load.now, config.zone
    unknown = traffic.in_flight is None or traffic.quiet_s is None or load.queued_jobs is None
    # Quiet since the first sample, which is not long enough ago to know.
    too_early = not unknown and _few_in_flight(load, idle) and traffic.quiet_s == traffic.watched_s
    aged_at = ritual.since + timedelta(seconds=aged_after_s(ritual, config))
    return wait(
        Cause.UNKNOWN if unknown or too_early else Cause.BUSY,
        f"{_traffic_text(traffic)}{_queue_text(load.queued_jobs)}; idle means {idle}; any load will do from "
        f"{clock_text(aged_at, now, zone)} on; measured at {clock_text(now, now, zone)}",
    )


def _queue_text(jobs: int | None) -> str:
    if jobs is None:
        return "; the worker queues cannot be read"
    return f", {jobs} worker jobs wait" if jobs else ""


def _traffic_text(traffic: Traffic) -> str:
    if traffic.in_flight is None or traffic.quiet_s is None:
        return "the load of the runes cannot be read, which counts as busy"
    in_flight = f", {traffic.in_flight} in flight" if traffic.in_flight else ""
    if traffic.quiet_s == traffic.watched_s and not in_flight:
        return f"no request in the {duration_text(traffic.watched_s)} since measuring began"
    rate = "recent requests" if traffic.per_minute is None else f"{traffic.per_minute:.3g} requests a minute"
    return f"{rate}{in_flight}, the last {duration_text(traffic.quiet_s)} ago"
