"""Fit a run into memory before its first step, and measure what it took.

On a CPU the memory is that of the process, on a GPU what torch has reserved of the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from math import ceil, inf
from pathlib import Path
from statistics import fmean
from typing import Any

from services.forge.job import MEMORY_FILE, TrainerJob
from services.forge.trainer.render import Example
from shared.contracts.forge import MemoryFigures
from shared.jobs.result_writer import InputError
from shared.storage.artifacts import write_atomically
from shared.storage.training_memory import Batch, DoesNotFit, fit, read_size
from shared.storage.untrusted import KIB

PROCESS, MACHINE = Path("/proc/self/status"), Path("/proc/meminfo")


def plan_memory(job: TrainerJob, examples: Sequence[Example], idle: int) -> MemoryFigures:
    """How many rows are in memory at once, whether activations are kept, and the estimate; also left in the output directory.

    Raises InputError where the run fits in no way; RuntimeError where it would, if others left it that much.
    """
    on_gpu, limit, free = _gpu().is_available(), job.memory or inf, _free_bytes()
    sides = [side for example in examples for side in example.sides]
    batch = Batch(
        rows=job.recipe.rows_at_once,
        length=max(len(side.input_ids) for side in sides),
        trained=ceil(fmean(nlargest(job.recipe.rows_at_once, (side.trained for side in sides)))),
        checkpointing=job.checkpointing or on_gpu,
    )
    terms: dict[str, int] = {}
    if size := read_size(job.base.path):
        try:
            batch, terms = fit(size, job.recipe, batch, min(limit, free) - idle, on_gpu=on_gpu)
        except DoesNotFit as error:
            raise (RuntimeError if free < limit < inf else InputError)(str(error)) from error
    figures = MemoryFigures(
        rows=batch.rows, length=batch.length, checkpointing=batch.checkpointing, terms=terms, idle=idle
    )
    write_atomically(job.output / MEMORY_FILE, figures.model_dump_json())
    return figures


def within_memory(job: TrainerJob, planned: MemoryFigures) -> TrainerJob:
    """The job with as many rows at once as fit. What it trains is the same."""
    recipe = job.recipe.model_copy(update={"micro_batch": planned.rows})
    return job.model_copy(update={"recipe": recipe, "checkpointing": planned.checkpointing})


def idle_bytes() -> int:
    """What is in use before the base is loaded."""
    return 0 if _gpu().is_available() else _read(PROCESS, "VmRSS")


def peak_bytes() -> int:
    """The most that was in use so far. Not ru_maxrss, which counts what the process was before it was executed too."""
    return int(_gpu().max_memory_reserved()) if _gpu().is_available() else _read(PROCESS, "VmHWM")


def _free_bytes() -> int:
    """What this process has and could get now."""
    if _gpu().is_available():
        return int(_gpu().mem_get_info()[0]) + int(_gpu().memory_reserved())
    return _read(MACHINE, "MemAvailable") + _read(PROCESS, "VmRSS")


def _gpu() -> Any:
    import torch  # seconds, which a job with bad input does not wait for

    return torch.cuda


def _read(file: Path, name: str) -> int:
    """A size in bytes from a file of the kernel; see proc(5)."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))
