"""A trainer that takes memory for each row it has at once, and is ended for it as the real one is.

`python -m tests.support.fakes.hungry_trainer JOB.json`. Where it may have that much, it fails for good with the rows it had.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from services.forge.job import MEMORY_FILE, TrainerJob
from shared.contracts.forge import MemoryFigures
from shared.contracts.job import JobResult
from shared.jobs.result_writer import ResultWriter

ROW_BYTES = 64 * 1024**2
HELD_S = 3.0  #: longer than between two samples of the limit


def main() -> None:
    job = TrainerJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    rows = job.recipe.rows_at_once
    planned = MemoryFigures(rows=rows, length=9, checkpointing=job.checkpointing, terms={}, idle=0)
    (job.output / MEMORY_FILE).write_text(planned.model_dump_json())
    taken = b"x" * (rows * ROW_BYTES)
    time.sleep(HELD_S)
    reason = f"trained with {rows} rows at once, {len(taken)} bytes"
    ResultWriter(job.output).write(JobResult(ok=False, error=reason, permanent=True))


if __name__ == "__main__":
    main()
