"""The progress of an evaluation: the answer of one arm to one item is one of `total`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.contracts.job import Progress
from shared.jobs.result_writer import ResultWriter


class Report:
    """Counts answers and times the steps."""

    def __init__(self, writer: ResultWriter) -> None:
        self.total = 0
        self._writer = writer
        self._phase = "start"
        self._done = 0
        self._first_ns: int | None = None

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        """Time a step and name it in the progress."""
        self._phase = phase
        self._write()
        with self._writer.span(phase):
            yield

    def advance(self, items: int) -> None:
        """Count `items` more answers of one arm."""
        self._done = min(self._done + items, self.total)
        self._write()

    def _write(self) -> None:
        self._writer.progress(
            Progress(phase=self._phase, done=self._done, total=self.total, unit="items", eta_s=self._eta_s())
        )

    def _eta_s(self) -> float | None:
        # Loading takes another pace: the clock starts at the first item.
        if self._first_ns is None:
            self._first_ns = time.monotonic_ns() if self.total else None
        if self._first_ns is None or not self._done:
            return None
        elapsed_s = (time.monotonic_ns() - self._first_ns) / 1e9
        return round(elapsed_s / self._done * (self.total - self._done), 1)
