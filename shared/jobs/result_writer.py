"""Write a job's output for its service: progress lines, timed spans, and the result, written last and atomically.

Used by trainer and evaluator in the jobs environment, which has pydantic and few other packages of the services.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.contracts.job import EXIT_FAILED, EXIT_INTERRUPTED, PROGRESS_FILE, RESULT_FILE, JobResult, JobSpan, Progress
from shared.storage.artifacts import write_atomically

#: of torch's allocator, of cuBLAS, and of the C library
REFUSED_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "Cannot allocate memory")


class InputError(Exception):
    """The job or one of its inputs can never be used as it is; the message names it and the reason."""


class Interrupted(BaseException):
    """The job was asked to stop. Not an Exception, so that no library handles it as an error of its own."""


def lacks_memory(error: Exception) -> bool:
    """Whether memory of the process or of the device was refused. torch has a class for the device alone, and is not imported here."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in REFUSED_MEMORY)


class ResultWriter:
    """Writes to a job's output directory."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.spans: list[JobSpan] = []

    def progress(self, progress: Progress) -> None:
        """Append one line with a single write, so that a reader never sees lines mixed."""
        with (self.output / PROGRESS_FILE).open("a", encoding="utf-8") as file:
            file.write(progress.model_dump_json() + "\n")

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time the block as a step of the job, also where it fails."""
        start = time.time_ns()
        try:
            yield
        finally:
            self.spans.append(JobSpan(name=name, start_ns=start, end_ns=time.time_ns()))

    def seconds(self, name: str) -> float:
        return sum(span.end_ns - span.start_ns for span in self.spans if span.name == name) / 1e9

    def run(self, work: Callable[[], Frozen]) -> int:
        """Do the work and leave its result, whatever happens. Returns the exit status of the job."""
        try:
            self.write(JobResult(ok=True, result=work().model_dump(mode="json")))
            return 0
        except Interrupted as stopped:
            self.write(JobResult(ok=False, error=str(stopped), interrupted=True))
            return EXIT_INTERRUPTED
        except InputError as error:
            print(error, file=sys.stderr)
            self.write(JobResult(ok=False, error=str(error), permanent=True))
        except Exception as error:
            # Not swallowed: reported in the result, with the trace on stderr. A driver or memory fault may pass.
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            self.write(JobResult(ok=False, error=reason, out_of_memory=lacks_memory(error)))
        return EXIT_FAILED

    def write(self, result: JobResult) -> None:
        """Write the result with the spans so far, atomically."""
        whole = result.model_copy(update={"spans": tuple(self.spans)})
        write_atomically(self.output / RESULT_FILE, whole.model_dump_json(indent=2) + "\n")
