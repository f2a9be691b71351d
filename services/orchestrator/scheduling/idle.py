"""Policy `idle`: the anvil is taken when its runes are not asked, or are asked less than the ritual's ripeness tolerates.

With ripeness r, from 0 to 1 (queue.py): quiet for idle_for_s · (1 - r), or at most busy_above + r / (1 - r) requests a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import floor, inf

from services.orchestrator.scheduling.decision import Cause, Decision, go, say, span, wait_for_calm
from services.orchestrator.scheduling.load import Pulse, Reflexes
from services.orchestrator.scheduling.queue import Whim, patience_s, ripeness
from shared.configuration.model import TippingConfig


@dataclass(frozen=True)
class Bar:
    """What counts as idle for one ritual at one moment."""

    quiet_s: float  #: without a request
    per_minute: float  #: requests a minute, and as many at once
    by_rate: bool  #: whether a rate may stand for quiet

    def __str__(self) -> str:
        quiet = f"none for {span(self.quiet_s)}"
        return f"at most {self.per_minute:.1f} a minute or {quiet}" if self.by_rate else quiet


def bar(ripe: float, config: TippingConfig) -> Bar:
    """The bar at this ripeness; it only ever comes down as that grows."""
    tolerated = config.busy_above + (ripe / (1 - ripe) if ripe < 1 else inf)
    # Where less than one request within idle_for_s is tolerated, only quiet can show it.
    return Bar(config.idle_for_s * (1 - ripe), tolerated, tolerated * config.idle_for_s >= 60)


def decide(whim: Whim, reflexes: Reflexes, config: TippingConfig) -> Decision:
    ripe, pulse = ripeness(whim, reflexes.now, config), reflexes.pulse
    if ripe >= 1:
        return go(
            Cause.RIPE, f"it has waited for {span(whim.waited_s(reflexes.now))}; any load will do ({_load(pulse)})"
        )
    idle = bar(ripe, config)
    if _free(reflexes, idle) and _calm(pulse, idle):
        return go(Cause.IDLE, f"{_load(pulse)}; idle means {idle}")
    return _wait(whim, reflexes, idle, config)


def _free(reflexes: Reflexes, idle: Bar) -> bool:
    """Nothing is under way, or no more than would come in a tolerated minute."""
    in_flight, queued = reflexes.pulse.in_flight, reflexes.queued
    return in_flight is not None and queued is not None and in_flight + queued <= floor(idle.per_minute)


def _calm(pulse: Pulse, idle: Bar) -> bool:
    """Few requests come: none for long enough, or at a tolerated rate both of late and for long."""
    if pulse.quiet_s is not None and pulse.quiet_s >= idle.quiet_s:
        return True
    if not idle.by_rate or pulse.per_minute is None or pulse.per_minute_long is None:
        return False
    return max(pulse.per_minute, pulse.per_minute_long) <= idle.per_minute and pulse.watched_s >= idle.quiet_s


def _wait(whim: Whim, reflexes: Reflexes, idle: Bar, config: TippingConfig) -> Decision:
    pulse, now, zone = reflexes.pulse, reflexes.now, config.zone
    unknown = pulse.in_flight is None or pulse.quiet_s is None or reflexes.queued is None
    # Quiet ever since looking began, which is not long enough ago to know.
    unseen = not unknown and _free(reflexes, idle) and pulse.quiet_s == pulse.watched_s
    ripe_at = whim.since + timedelta(seconds=patience_s(whim, config))
    queue = "; the worker queues cannot be read" if reflexes.queued is None else _queued(reflexes.queued)
    return wait_for_calm(
        Cause.UNKNOWN if unknown or unseen else Cause.BUSY,
        now,
        idle.quiet_s - (pulse.quiet_s or 0.0),
        f"{_load(pulse)}{queue}; idle means {idle}; any load will do from {say(ripe_at, now, zone)} on; "
        f"looked at {say(now, now, zone)}",
    )


def _queued(jobs: int) -> str:
    return f", {jobs} worker jobs wait" if jobs else ""


def _load(pulse: Pulse) -> str:
    """What the runes are asked, in words."""
    if pulse.in_flight is None or pulse.quiet_s is None:
        return "the load of the runes cannot be read, which counts as busy"
    under_way = f", {pulse.in_flight} under way" if pulse.in_flight else ""
    if pulse.quiet_s == pulse.watched_s and not under_way:
        return f"no request in the {span(pulse.watched_s)} of looking"
    rate = "requests of late" if pulse.per_minute is None else f"{pulse.per_minute:.3g} requests a minute"
    return f"{rate}{under_way}, the last {span(pulse.quiet_s)} ago"
