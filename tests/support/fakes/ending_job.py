"""A job that ends as it is told: `python -m tests.support.fakes.ending_job JOB.json`."""

from __future__ import annotations

import sys
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.contracts.job import JobResult
from shared.jobs.result_writer import ResultWriter


class EndingJob(Frozen):
    """The result to leave; None leaves nothing, as a job that was killed."""

    output: Path
    result: JobResult | None


def main() -> None:
    job = EndingJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    if job.result:
        ResultWriter(job.output).write(job.result)


if __name__ == "__main__":
    main()
