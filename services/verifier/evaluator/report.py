"""What the evaluator says as it runs and at its end: progress lines, timed steps, the result by atomic rename."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, JobSpan, Progress


class Report:
    """The job's own account of itself, below its output directory."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.spans: list[JobSpan] = []
        self.total = 0
        self._phase = "start"
        self._done = 0
        self._first_ns: int | None = None

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        """Times a step, also one that fails."""
        self._phase, start_ns = phase, time.time_ns()
        self._write_progress()
        try:
            yield
        finally:
            self.spans.append(JobSpan(name=phase, start_ns=start_ns, end_ns=time.time_ns()))

    def advance(self, items: int) -> None:
        """`items` more were answered by one arm."""
        self._done = min(self._done + items, self.total)
        self._write_progress()

    def finish(self, result: JobResult) -> None:
        write_whole(self.output / RESULT_FILE, result)

    def _write_progress(self) -> None:
        line = Progress(phase=self._phase, done=self._done, total=self.total, unit="items", eta_s=self._eta_s())
        with (self.output / PROGRESS_FILE).open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")

    def _eta_s(self) -> float | None:
        # Loading is no measure of the pace: the clock starts at the first item.
        if self._first_ns is None:
            self._first_ns = time.monotonic_ns() if self.total else None
        if self._first_ns is None or not self._done:
            return None
        elapsed_s = (time.monotonic_ns() - self._first_ns) / 1e9
        return round(elapsed_s / self._done * (self.total - self._done), 1)


def write_whole(path: Path, value: BaseModel) -> None:
    """A reader sees the whole file or none."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(value.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
