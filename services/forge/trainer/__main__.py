"""The trainer job's entry: `python -m services.forge.trainer JOB.json`. Parses first; torch is imported only to work."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads of the default wait policy spin for milliseconds: on a busy machine that doubles a run's processor time.
    "GOMP_SPINCOUNT": "2000",
}


def main(arguments: list[str]) -> int:
    """Run one job; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m services.forge.trainer", description=__doc__)
    parser.add_argument("job", type=Path, help="the job file, as services.forge.job.TrainerJob writes it")
    path = parser.parse_args(arguments).job
    from services.forge.job import TrainerJob

    job = TrainerJob.model_validate_json(path.read_bytes())
    job.output.mkdir(parents=True, exist_ok=True)
    # The sandbox shows only the inputs and the output: every cache of the libraries must lie in the latter.
    scratch = job.output / ".scratch"
    os.environ.update(ENVIRONMENT, HF_HOME=str(scratch / "hf"))  # noqa: TID251 - the libraries read nothing else
    from services.forge.trainer.allocator import keep_freed_memory
    from services.forge.trainer.run import run

    keep_freed_memory()
    return run(job)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
