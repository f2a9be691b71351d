"""SIGTERM asks the run to stop; it is honoured at the next safe point, never in the middle of a step."""

from __future__ import annotations

import signal
from types import FrameType

from shared.jobs.result_writer import Interrupted


class StopRequest:
    """Whether the run was asked to stop. Listens from the main thread, before torch is imported."""

    def __init__(self) -> None:
        self.made = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.made = True

    def honour(self, place: str) -> None:
        """Raises Interrupted when a stop was asked for."""
        if self.made:
            raise Interrupted(f"asked to stop {place}")
