"""A job that ends as it is told: `python -m tests.support.fakes.ending_job JOB.json`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pydantic import Field

from shared.contracts.job import JobResult, Progress
from shared.jobs.result_writer import ResultWriter
from shared.jobs.start_limit import GpuJob


class EndingJob(GpuJob):
    """The result to leave; None leaves nothing, as a job that was killed. The other fields are what a hostile job leaves.

    `files`, `links` and `sparse` are by path below the output: a text, a target, a size in bytes.
    """

    output: Path
    result: JobResult | None = None
    files: dict[str, str] = Field({})
    links: dict[str, str] = Field({})
    sparse: dict[str, int] = Field({})
    pipes: tuple[str, ...] = ()
    printed: str = ""
    pause_s: float = 0
    progress_every_s: float = Field(0, description="During the pause; 0: none.")


def main() -> None:
    job = EndingJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    leave(job)
    print(job.printed)
    pause(job)
    if job.result:
        ResultWriter(job.output).write(job.result)


def pause(job: EndingJob) -> None:
    until = time.monotonic() + job.pause_s
    while (left_s := until - time.monotonic()) > 0:
        if job.progress_every_s:
            ResultWriter(job.output).progress(Progress(phase="pause", done=0, total=1, unit="pauses"))
        time.sleep(min(job.progress_every_s or left_s, left_s))


def leave(job: EndingJob) -> None:
    for name in (*job.files, *job.links, *job.sparse, *job.pipes):
        (job.output / name).parent.mkdir(parents=True, exist_ok=True)
    for name, text in job.files.items():
        (job.output / name).write_text(text)
    for name, target in job.links.items():
        (job.output / name).symlink_to(target)
    for name, size in job.sparse.items():
        (job.output / name).touch()
        os.truncate(job.output / name, size)
    for name in job.pipes:
        os.mkfifo(job.output / name)


if __name__ == "__main__":
    main()
