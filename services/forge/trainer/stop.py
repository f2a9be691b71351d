"""A request to stop the run, by SIGTERM; it takes effect at the next safe point, never in the middle of a step."""

from __future__ import annotations

import signal
from types import FrameType

from shared.jobs.result_writer import Interrupted


class StopRequest:
    """Records SIGTERM. `listen` is called in the main thread, before torch is imported."""

    def __init__(self) -> None:
        self.made = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.made = True

    def raise_if_made(self, place: str) -> None:
        """Raise Interrupted where a stop was requested."""
        if self.made:
            raise Interrupted(f"asked to stop {place}")
