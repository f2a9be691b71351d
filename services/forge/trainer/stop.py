"""A request to stop the run, by SIGTERM. In training it takes effect at the next safe point, never in the middle of a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from shared.jobs.result_writer import Interrupted


class StopRequest:
    """Records SIGTERM. `listen` is called in the main thread, before torch is imported."""

    def __init__(self) -> None:
        self.made = False
        self._place: str | None = None

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._note)

    @contextmanager
    def at_once(self, place: str) -> Iterator[None]:
        """Let a request end the block wherever it is, for work that leaves nothing behind. Raises Interrupted."""
        self._place = place
        try:
            self.raise_if_made(place)
            yield
            # Raised inside a library's finaliser, an exception is only reported: the request itself is remembered.
            self.raise_if_made(place)
        finally:
            self._place = None

    def raise_if_made(self, place: str) -> None:
        """Raise Interrupted where a stop was requested."""
        if self.made:
            raise Interrupted(f"asked to stop {place}")

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.made = True
        if self._place:
            self.raise_if_made(self._place)
