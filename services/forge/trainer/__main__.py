"""Entry of the trainer job: `python -m services.forge.trainer JOB.json`. Imports torch only after parsing."""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from pathlib import Path

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",  # its warning at each import; what we use of it is pinned and tested
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TMPDIR": "/tmp",  # the paths of its sockets are limited to 107 bytes
    # It would turn bf16 off where a processor has no instructions for it: the recipe decides.
    "UNSLOTH_CPU_BF16": "1",
    # With the default wait policy threads spin for milliseconds: on a busy machine that doubles a run's processor time.
    "GOMP_SPINCOUNT": "2000",
    # oneDNN keeps the operations of its last 1024 shapes: with rows of many lengths that took 0.3 GiB of a small run.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}
# malloc.h: numbers of mallopt's parameters. glibc returns each large tensor to the kernel and requests it again a moment
# later: on CPU that cost a third of a run's processor time.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
MALLOC_PARAMETERS = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}


def main(arguments: list[str]) -> int:
    """Run one job; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m services.forge.trainer", description=__doc__)
    parser.add_argument("job", type=Path, help="the job file, as services.forge.job.TrainerJob writes it")
    path = parser.parse_args(arguments).job
    from services.forge.job import TrainerJob

    job = TrainerJob.model_validate_json(path.read_bytes())
    job.output.mkdir(parents=True, exist_ok=True)
    # The sandbox has only the inputs and the output: the libraries' caches must be in the latter.
    scratch = job.output / ".scratch"
    caches = {"HF_HOME": str(scratch / "hf"), "UNSLOTH_COMPILE_LOCATION": str(scratch / "unsloth")}
    os.environ.update(ENVIRONMENT | caches)  # noqa: TID251 - the libraries read nothing else
    from services.forge.trainer.run import run

    keep_freed_memory()
    return run(job)


def keep_freed_memory() -> None:
    """Keep freed memory in the process; does nothing where the C library is not glibc."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for name, value in MALLOC_PARAMETERS.items():
            mallopt(name, value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
