"""What the job leaves for its service: progress lines, timed spans and the result, written last by atomic rename."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, JobSpan, Progress


class Envelope:
    """The writing side of a job's output directory."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.spans: list[JobSpan] = []

    def progress(self, progress: Progress) -> None:
        """Append one line. One write each, so that a reader never sees two lines mixed."""
        with (self.output / PROGRESS_FILE).open("a", encoding="utf-8") as file:
            file.write(progress.model_dump_json() + "\n")

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time a step of the job, also when it fails."""
        start = time.time_ns()
        try:
            yield
        finally:
            self.spans.append(JobSpan(name=name, start_ns=start, end_ns=time.time_ns()))

    def seconds(self, name: str) -> float:
        return sum(span.end_ns - span.start_ns for span in self.spans if span.name == name) / 1e9

    def close(self, result: JobResult) -> None:
        """Write the result: it appears whole or not at all."""
        unfinished = self.output / f".{RESULT_FILE}.{os.getpid()}"
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(result.model_copy(update={"spans": tuple(self.spans)}).model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.output / RESULT_FILE)
