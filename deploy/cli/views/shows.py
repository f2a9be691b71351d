"""The two ways to show a ritual while it goes on: a live picture, and lines for logs and pipes."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from deploy.cli.format import duration, short_id
from deploy.cli.views.fact_text import saying
from deploy.cli.views.live import picture, progress_line
from deploy.cli.views.stages import held_back

if TYPE_CHECKING:
    from datetime import datetime

    from deploy.cli.sight import Sight
    from deploy.cli.views.stages import Row
    from shared.contracts.intent import RitualProgress

PROGRESS_EVERY_S = 10.0
WAITING_EVERY_S = 300.0  # the figures of a reason change all the time
REFRESHES_PER_S = 4


class Picture:
    """The whole way on a terminal, drawn again at every look; the last one stays."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=REFRESHES_PER_S)
        self._last: tuple[Sight, RitualProgress | None] | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, sight: Sight, progress: RitualProgress | None) -> None:
        self._last = sight, progress
        self._live.update(picture(sight, progress))

    def lost(self, note: str) -> None:
        self._live.update(self._stale(note))

    def _stale(self, note: str) -> RenderableType:
        return picture(*self._last, note) if self._last else Text(note, "yellow")


class Lines:
    """One line for every fact, and now and then one for the job's progress or for what the ritual waits for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[tuple[str, int]] = set()
        self._note = ""
        self._progress = ""
        self._progress_at = float("-inf")
        self._waiting: tuple[str, str] | None = None
        self._waiting_at = float("-inf")
        self._began = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def update(self, sight: Sight, progress: RitualProgress | None) -> None:
        self._note = ""
        ritual, since = sight.ritual, sight.ritual["created_at"]
        if not self._began:
            self._say(ritual["created_at"], f"ritual {short_id(ritual['id'])} intended: train {ritual['persona']}")
            self._began = True
        for fact in sight.facts:
            if (fact["subject"], fact["attempt"]) not in self._told:
                self._told.add((fact["subject"], fact["attempt"]))
                self._say(fact["stated_at"], fact_line(fact, since))
            since = fact["stated_at"]
        self._tell_waiting(sight)
        if progress:
            self._tell_progress(sight.now, f"{progress.job}: {progress_line(progress)}")

    def lost(self, note: str) -> None:
        if note != self._note:
            self._console.print(note, markup=False, soft_wrap=True)
        self._note = note

    def _tell_waiting(self, sight: Sight) -> None:
        """Why the anvil is not taken yet: at once where the cause is another, else every WAITING_EVERY_S at most."""
        reason = held_back(sight.ritual, sight.tipping)
        if reason is None or sight.tipping is None:
            self._waiting = None
            return
        waiting = str(sight.tipping["measures"].get("cause", "")), reason
        same_cause = self._waiting is not None and self._waiting[0] == waiting[0]
        if waiting == self._waiting or (same_cause and monotonic() - self._waiting_at < WAITING_EVERY_S):
            return
        self._say(sight.now, reason)
        self._waiting, self._waiting_at = waiting, monotonic()

    def _tell_progress(self, now: datetime, line: str) -> None:
        if line != self._progress and monotonic() - self._progress_at >= PROGRESS_EVERY_S:
            self._say(now, line)
            self._progress, self._progress_at = line, monotonic()

    def _say(self, moment: datetime, line: str) -> None:
        self._console.print(f"{moment.astimezone():%H:%M:%S}  {line}", markup=False, soft_wrap=True)


def fact_line(fact: Row, since: datetime) -> str:
    """`harvested (0.4 s): 152 to train …`; `since` is when the fact before it was stated."""
    name = fact["state_after"] if fact["state_before"] != fact["state_after"] else fact["subject"]
    if fact["subject"] == "gpu.interrupted":
        name = f"attempt {fact['attempt']} interrupted"
    seconds = (fact["stated_at"] - max(since, fact["started_at"])).total_seconds()
    text = saying(fact["subject"], fact["body"])
    return f"{name} ({duration(seconds)})" + (f": {text}" if text else "")
