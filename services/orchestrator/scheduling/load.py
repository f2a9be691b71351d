"""The measured load: the traffic of an anvil's runes, its worker queues, and the time without inference.

Traffic is counted from samples of the engines' own counters, taken every few seconds and kept in memory only. After a
start, a restart of the engine or a gap between samples the count starts over and claims nothing that was not observed:
quiet time runs from the first sample, and rates are unknown for a minute. None means "could not be measured".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import Field

from services.orchestrator.scheduling.decision import Moment, Seconds
from shared.contracts.frozen import Frozen
from shared.drivers.inference.port import Activity

Number = TypeVar("Number", int, float)
EVER_S = 366 * 86400.0
SHORT_S = 60.0
LONG_S = 600.0
GAP_S = 60.0  # between two samples, beyond which what happened in between is unknown
STALE_S = 30.0  # age beyond which a sample does not describe the present
BUCKET_S = 5.0  # arrivals within one bucket are counted together, which bounds the memory


class Traffic(Frozen):
    """How many requests the runes of an anvil get. `Traffic()` is that of runes that cannot be read."""

    running: int | None = Field(None, ge=0, description="Requests that run.")
    waiting: int | None = Field(None, ge=0, description="Requests that wait, in the engine or before it.")
    per_minute: float | None = Field(None, ge=0, description="Arrivals a minute over the last minute.")
    per_minute_long: float | None = Field(None, ge=0, description="Arrivals a minute over the last ten minutes.")
    quiet_s: float | None = Field(None, ge=0, description="Seconds since the last request, or since the first sample.")
    watched_s: float = Field(0.0, ge=0, description="Seconds covered by samples without a gap.")

    @property
    def in_flight(self) -> int | None:
        return None if self.running is None or self.waiting is None else self.running + self.waiting


class Load(Frozen):
    """Everything measured that a decision depends on."""

    now: Moment
    traffic: Traffic = Traffic()
    queued_jobs: int | None = Field(None, ge=0, description="Jobs that wait in the anvil's worker queues.")
    away_today_s: Seconds = Field(0.0, description="Seconds without inference on this anvil since the day began.")
    expected_away_s: Seconds | None = Field(None, description="Length of this hand-over; None: as configured.")
    reserved_s: Seconds = Field(0.0, description="Seconds of the budget reserved for rituals earlier in the queue.")


def combine(traffics: Sequence[Traffic]) -> Traffic:
    """The traffic of an anvil from that of its runes: a value unknown for one is unknown for all."""
    running, waiting = _known(each.running for each in traffics), _known(each.waiting for each in traffics)
    short, long = _known(each.per_minute for each in traffics), _known(each.per_minute_long for each in traffics)
    quiet_s = _known(each.quiet_s for each in traffics)
    return Traffic(
        running=None if running is None else sum(running),
        waiting=None if waiting is None else sum(waiting),
        per_minute=None if short is None else sum(short),
        per_minute_long=None if long is None else sum(long),
        quiet_s=None if quiet_s is None else min(quiet_s, default=EVER_S),
        watched_s=min((each.watched_s for each in traffics), default=EVER_S),
    )


def _known(values: Iterable[Number | None]) -> list[Number] | None:
    """All of them, or None where one is unknown."""
    known: list[Number] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return known


@dataclass(frozen=True)
class TrafficHistory:
    """The samples of one rune, summed up. Times are seconds of a monotonic clock."""

    last: Activity | None = None
    began: float = 0.0  #: the first sample without a gap since
    sampled: float = 0.0  #: the last sample
    requested: float = 0.0  #: the last sign of a request
    readable: bool = False
    arrivals: tuple[tuple[int, float], ...] = ()  #: (bucket, arrivals)

    def add(self, at: float, sample: Activity | None) -> TrafficHistory:
        """Add a sample; None is a rune that could not be read."""
        if sample is None:
            return replace(self, readable=False)
        if self.last is None or not self._continues(self.last, at, sample):
            return TrafficHistory(last=sample, began=at, sampled=at, requested=at, readable=True)
        # An aborted request leaves without being counted as finished, so the difference can be negative.
        arrived = max(_total(sample) - _total(self.last), 0)
        active = arrived or sample.left or self.last.left or sample.finished_total > self.last.finished_total
        return TrafficHistory(
            last=sample,
            began=self.began,
            sampled=at,
            requested=at if active else self.requested,
            readable=True,
            arrivals=_count(self.arrivals, at, arrived),
        )

    def traffic(self, at: float) -> Traffic:
        """The traffic at that time; unknown where the last sample failed or is too old."""
        if self.last is None or not self.readable or not 0 <= at - self.sampled <= STALE_S:
            return Traffic()
        watched_s = self.sampled - self.began
        return Traffic(
            running=self.last.running,
            waiting=self.last.left - self.last.running,
            per_minute=self._per_minute(SHORT_S, watched_s),
            per_minute_long=self._per_minute(LONG_S, watched_s),
            quiet_s=self.sampled - self.requested,
            watched_s=watched_s,
        )

    def _continues(self, last: Activity, at: float, sample: Activity) -> bool:
        """False after a gap, and where the engine was restarted: it counts from 0 again, or counts other things."""
        if not 0 <= at - self.sampled <= GAP_S or sample.finished_total < last.finished_total:
            return False
        if sample.admitted_total is None or last.admitted_total is None:
            return sample.admitted_total is last.admitted_total
        return sample.admitted_total >= last.admitted_total

    def _per_minute(self, horizon_s: float, watched_s: float) -> float | None:
        if watched_s < SHORT_S:
            return None
        begins = self.sampled - horizon_s
        arrived = sum(count for bucket, count in self.arrivals if (bucket + 1) * BUCKET_S > begins)
        return arrived * 60 / min(watched_s, horizon_s)


def _total(sample: Activity) -> int:
    """Requests since the engine's start; without a gate that counts them, those that finished or are in flight."""
    return sample.finished_total + sample.left if sample.admitted_total is None else sample.admitted_total


def _count(arrivals: tuple[tuple[int, float], ...], at: float, count: float) -> tuple[tuple[int, float], ...]:
    """Add to the bucket of that time, and drop the buckets beyond the long horizon."""
    now = int(at // BUCKET_S)
    before = arrivals[-1][1] if arrivals and arrivals[-1][0] == now else 0.0
    kept = tuple(each for each in arrivals if each[0] != now and (each[0] + 1) * BUCKET_S > at - LONG_S)
    return (*kept, (now, before + count)) if before + count else kept
