"""What looking at the runes every few seconds adds up to: arrivals a minute, and how long nobody has asked.

Lives in memory only. After a start, a restart of the engine, or a gap in looking, it begins anew and claims nothing that it
has not seen: quiet counts from the first look, and rates are unknown for a minute. `idle` then waits for what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from services.orchestrator.scheduling.load import Pulse
from shared.drivers.inference.port import Activity

SHORT_S = 60.0
LONG_S = 600.0
GAP_S = 60.0  # between looks, after which what happened in between is not claimed to be known
STALE_S = 30.0  # age of a look, from which it says nothing about now
BUCKET_S = 5.0  # what arrived within one is counted together, which bounds the memory


class Load(Protocol):
    """The least that a look gives. An `Activity` gives more: what a gate before the engine counts."""

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def finished_total(self) -> int: ...


@dataclass(frozen=True)
class History:
    """What was seen of one rune until the last look. Moments are seconds of a steady clock."""

    last: Activity | None = None
    began: float = 0.0  #: the first look without a gap since
    looked: float = 0.0
    asked: float = 0.0  #: the last sign of a request
    readable: bool = False
    arrived: tuple[tuple[int, float], ...] = ()  #: how many in which bucket

    def look(self, moment: float, load: Load | None) -> History:
        """The history with one more look; `None` is a rune that could not be read."""
        if load is None:
            return replace(self, readable=False)
        seen = _activity(load)
        if self.last is None or not self._goes_on(self.last, moment, seen):
            return History(last=seen, began=moment, looked=moment, asked=moment, readable=True)
        # An aborted request leaves without being counted as finished, so the difference can be negative.
        arrivals = max(_total(seen) - _total(self.last), 0)
        active = arrivals or seen.left or self.last.left or seen.finished_total > self.last.finished_total
        return History(
            last=seen,
            began=self.began,
            looked=moment,
            asked=moment if active else self.asked,
            readable=True,
            arrived=_add(self.arrived, moment, arrivals),
        )

    def pulse(self, moment: float) -> Pulse:
        """What is known at `moment`; nothing, where the last look failed or is too long ago."""
        if self.last is None or not self.readable or not 0 <= moment - self.looked <= STALE_S:
            return Pulse()
        watched_s = self.looked - self.began
        return Pulse(
            running=self.last.running,
            waiting=self.last.left - self.last.running,
            per_minute=self._per_minute(SHORT_S, watched_s),
            per_minute_long=self._per_minute(LONG_S, watched_s),
            quiet_s=self.looked - self.asked,
            watched_s=watched_s,
        )

    def _goes_on(self, last: Activity, moment: float, seen: Activity) -> bool:
        """False after a gap, and where the engine was restarted: it counts from 0 again, or counts other things."""
        if not 0 <= moment - self.looked <= GAP_S or seen.finished_total < last.finished_total:
            return False
        if seen.admitted_total is None or last.admitted_total is None:
            return seen.admitted_total is last.admitted_total
        return seen.admitted_total >= last.admitted_total

    def _per_minute(self, horizon_s: float, watched_s: float) -> float | None:
        if watched_s < SHORT_S:
            return None
        begins = self.looked - horizon_s
        seen = sum(count for bucket, count in self.arrived if (bucket + 1) * BUCKET_S > begins)
        return seen * 60 / min(watched_s, horizon_s)


def _activity(load: Load) -> Activity:
    if isinstance(load, Activity):
        return load
    return Activity(running=load.running, waiting=load.waiting, finished_total=load.finished_total)


def _total(seen: Activity) -> int:
    """Requests that came since the engine's start, or where nobody counts them: that ended or are under way."""
    return seen.finished_total + seen.left if seen.admitted_total is None else seen.admitted_total


def _add(arrived: tuple[tuple[int, float], ...], moment: float, count: float) -> tuple[tuple[int, float], ...]:
    """Count into the bucket of `moment`, and forget those that are past the long horizon."""
    now = int(moment // BUCKET_S)
    before = arrived[-1][1] if arrived and arrived[-1][0] == now else 0.0
    kept = tuple(each for each in arrived if each[0] != now and (each[0] + 1) * BUCKET_S > moment - LONG_S)
    return (*kept, (now, before + count)) if before + count else kept
