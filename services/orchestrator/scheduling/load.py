"""What was measured when a decision is made. None is "could not be measured", and counts as more than any number."""

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
GAP_S = 60.0  # between looks, after which what happened in between is not claimed to be known
STALE_S = 30.0  # age of a look, from which it says nothing about now
BUCKET_S = 5.0  # what arrived within one is counted together, which bounds the memory


class Pulse(Frozen):
    """How much the runes of the anvil are asked. `Pulse()` is that of runes that cannot be read."""

    running: int | None = Field(None, ge=0, description="Requests that run.")
    waiting: int | None = Field(None, ge=0, description="Requests that wait, in the engine or before it.")
    per_minute: float | None = Field(None, ge=0, description="Arrivals a minute over the last minute.")
    per_minute_long: float | None = Field(None, ge=0, description="Arrivals a minute over the last ten minutes.")
    quiet_s: float | None = Field(None, ge=0, description="Seconds since a request was seen, or since looking began.")
    watched_s: float = Field(0.0, ge=0, description="Seconds of looking without a gap.")

    @property
    def in_flight(self) -> int | None:
        return None if self.running is None or self.waiting is None else self.running + self.waiting


def together(pulses: Sequence[Pulse]) -> Pulse:
    """The pulse of an anvil from those of its runes: what is unknown of one is unknown. Without runes nobody ever asked."""
    running, waiting = _known(p.running for p in pulses), _known(p.waiting for p in pulses)
    short, long = _known(p.per_minute for p in pulses), _known(p.per_minute_long for p in pulses)
    quiet_s = _known(p.quiet_s for p in pulses)
    return Pulse(
        running=None if running is None else sum(running),
        waiting=None if waiting is None else sum(waiting),
        per_minute=None if short is None else sum(short),
        per_minute_long=None if long is None else sum(long),
        quiet_s=None if quiet_s is None else min(quiet_s, default=EVER_S),
        watched_s=min((p.watched_s for p in pulses), default=EVER_S),
    )


def _known(values: Iterable[Number | None]) -> list[Number] | None:
    """All of them, or None where one is unknown."""
    known: list[Number] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return known


class Reflexes(Frozen):
    """Everything measured that the tipping point depends on."""

    now: Moment
    pulse: Pulse = Pulse()
    queued: int | None = Field(None, ge=0, description="Jobs that wait in the anvil's worker queues; 0 without queues.")
    away_today_s: Seconds = Field(0.0, description="Seconds without inference on this anvil since the day began.")
    expected_away_s: Seconds | None = Field(None, description="How long this hand-over will take; None: as configured.")
    reserved_s: Seconds = Field(0.0, description="Seconds of the budget kept for rituals that are before this one.")


@dataclass(frozen=True)
class History:
    """What was seen of one rune until the last look. Moments are seconds of a steady clock."""

    last: Activity | None = None
    began: float = 0.0  #: the first look without a gap since
    looked: float = 0.0
    asked: float = 0.0  #: the last sign of a request
    readable: bool = False
    arrived: tuple[tuple[int, float], ...] = ()  #: how many in which bucket

    def look(self, moment: float, seen: Activity | None) -> History:
        """The history with one more look; `None` is a rune that could not be read."""
        if seen is None:
            return replace(self, readable=False)
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


def _total(seen: Activity) -> int:
    """Requests that came since the engine's start, or where nobody counts them: that ended or are under way."""
    return seen.finished_total + seen.left if seen.admitted_total is None else seen.admitted_total


def _add(arrived: tuple[tuple[int, float], ...], moment: float, count: float) -> tuple[tuple[int, float], ...]:
    """Count into the bucket of `moment`, and forget those that are past the long horizon."""
    now = int(moment // BUCKET_S)
    before = arrived[-1][1] if arrived and arrived[-1][0] == now else 0.0
    kept = tuple(each for each in arrived if each[0] != now and (each[0] + 1) * BUCKET_S > moment - LONG_S)
    return (*kept, (now, before + count)) if before + count else kept
