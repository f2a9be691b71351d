"""What was measured when a decision is made. None is "could not be measured", and counts as more than any number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import Field

from services.orchestrator.scheduling.decision import Moment, Seconds
from shared.contracts.frozen import Frozen

Number = TypeVar("Number", int, float)
EVER_S = 366 * 86400.0


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
