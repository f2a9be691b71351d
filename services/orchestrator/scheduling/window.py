"""Policy `window`: the anvil is taken at times of the day, so that the work fits in before the window closes.

Work longer than any window starts when one opens, or as much later as its aging grants: better late than never.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from services.orchestrator.scheduling.decision import (
    Cause,
    Decision,
    at_local_time,
    clock_text,
    duration_text,
    start,
    wait,
)
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import QueuedRitual, aging
from shared.config.tipping import TippingConfig

DAYS = range(-1, 5)  # yesterday's window may still be open; a change of clocks may shorten or skip tomorrow's
BEGINNING = 0.1  # share of a window that counts as its beginning
BEGINNING_S = 600.0  # and at least this long, as the anvil may be held when the window opens


@dataclass(frozen=True)
class Opening:
    """A window of one day, as moments."""

    opens: datetime
    closes: datetime

    @property
    def length_s(self) -> float:
        return (self.closes - self.opens).total_seconds()


def decide_window(ritual: QueuedRitual, load: Load, expected_s: float, config: TippingConfig) -> Decision:
    """Start where the work fits before the window closes, else wait for a window that is long enough."""
    now, zone = load.now, config.zone
    around = openings(config.windows, now, zone)
    inside = next((each for each in around if each.opens <= now < each.closes), None)
    later = [each for each in around if each.opens > now]
    fitting = [each for each in later if each.length_s >= expected_s]
    if inside and now + timedelta(seconds=expected_s) <= inside.closes:
        closes = clock_text(inside.closes, now, zone)
        return start(Cause.WINDOW, f"{duration_text(expected_s)} are expected and fit into the window until {closes}")
    if inside and not fitting and (not later or _beginning(inside, now, aging(ritual, now, config))):
        over_s, closes = expected_s - (inside.closes - now).total_seconds(), clock_text(inside.closes, now, zone)
        past = f"it will run {duration_text(over_s)} past the window's end at {closes}"
        return start(Cause.TOO_LONG, f"{_too_long(expected_s)}; {past}")
    late = f"too late for the window that closes at {clock_text(inside.closes, now, zone)}; " if inside else ""
    why = f"{duration_text(expected_s)} are expected" if fitting else _too_long(expected_s)
    opening = (fitting or later)[0]
    until = f"{late}a window opens at {clock_text(opening.opens, now, zone)} ({config.timezone})"
    return wait(Cause.WINDOW if fitting else Cause.TOO_LONG, f"{until}; {why}", opening.opens)


def _beginning(inside: Opening, now: datetime, aged: float) -> bool:
    since_s = (now - inside.opens).total_seconds()
    return since_s <= max(BEGINNING_S, max(BEGINNING, aged) * inside.length_s)


def _too_long(expected_s: float) -> str:
    return f"{duration_text(expected_s)} are expected, more than a window is long: it starts where one opens"


def openings(windows: tuple[str, ...], now: datetime, zone: tzinfo) -> list[Opening]:
    """The windows around `now` in order of time; those that touch are one. One that clocks skip is left out."""
    today = now.astimezone(zone).date()
    edges = sorted(_edges(window, today + timedelta(days=days), zone) for window in windows for days in DAYS)
    joined: list[Opening] = []
    for opens, closes in edges:
        if joined and opens <= joined[-1].closes:
            joined[-1] = Opening(joined[-1].opens, max(joined[-1].closes, closes))
        elif opens < closes:
            joined.append(Opening(opens, closes))
    return joined


def _edges(window: str, day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    opens, closes = (time.fromisoformat(edge) for edge in window.split("-"))
    last = day if opens < closes else day + timedelta(days=1)
    return at_local_time(day, opens, zone), at_local_time(last, closes, zone)
