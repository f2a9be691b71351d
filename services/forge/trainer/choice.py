"""Choose the engine of a run by measurement: a pilot of some steps per candidate, in the environment of each.

The result is kept by device, base, shape of the data and versions. Short runs on a CPU take `trl`: there a pilot costs
more than it brings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.forge.job import TrainerJob, kept_name
from services.forge.trainer.provenance import cpu_name
from services.forge.trainer.rows import Split
from shared.contracts.forge import EngineChoice, EngineName, Pilot
from shared.contracts.job import RESULT_FILE, JobResult
from shared.storage.artifacts import write_atomically
from shared.storage.base_shape import read_shape
from shared.storage.untrusted import KIB, OutputError, read_model

MOST_S, SHARE = 60.0, 0.05  #: all pilots together: seconds at most, and the share of the estimated training
LEAST_S = 20.0  #: in less nothing is loaded and measured
SHORT_S = 20 * 60.0  #: training on a CPU that gets no pilot
EFFICIENCY = 0.25  #: of a device's matrix rate that training reaches
BYTES_PER_TOKEN = 4
LARGEST = 64 * KIB
MEASURED = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes")


def choose(job: TrainerJob, rows: Split) -> EngineChoice:
    """The engine for this run: by an earlier measurement, or by pilots where they pay, in the first attempt only."""
    device, on_cpu = _device()
    tokens = sum(len(str(message.get("content"))) for row in rows for message in row.messages) / BYTES_PER_TOKEN
    key = _key(job, device, tokens / len(rows))
    if kept := _kept(job, key):
        return kept.model_copy(update={"why": "measured before with this device, base, shape and versions"})
    if job.attempt > 1:  # perhaps to a pilot that needed more memory than the job may take
        return EngineChoice(engine="trl", why="an earlier attempt was lost", key=key)
    seconds = training_s(
        tokens * job.recipe.passes(round(tokens)), read_shape(job.base.path).parameters, _flops_per_s()
    )
    if (budget := budget_s(seconds, on_cpu)) == 0:
        return EngineChoice(engine="trl", why=f"no pilot pays in about {seconds / 60:.0f} min of training", key=key)
    pilots = _pilots(job, budget)
    measured = any(pilot.tokens_per_s for pilot in pilots)
    why = "the fastest of the pilots" if measured else "no pilot came to a figure"
    return EngineChoice(engine=fastest(pilots), why=why, key=key, pilots=pilots)


def budget_s(training_s: float, on_cpu: bool) -> float:
    """Seconds that all pilots together may take; 0 where there is to be none."""
    budget = min(MOST_S, SHARE * training_s)
    return 0 if budget < LEAST_S or (on_cpu and training_s < SHORT_S) else budget


def training_s(tokens: float, parameters: float, flops_per_s: float) -> float:
    """Estimate a run in seconds: forward pass and input gradients, 2 operations each per parameter and token."""
    return 4 * parameters * tokens / (EFFICIENCY * flops_per_s)


def fastest(pilots: Sequence[Pilot]) -> EngineName:
    """The engine with the highest rate; `trl` where no pilot came to a figure."""
    measured = [pilot for pilot in pilots if pilot.tokens_per_s]
    return max(measured, key=lambda pilot: pilot.tokens_per_s or 0).engine if measured else "trl"


def hand_over(job: TrainerJob, choice: EngineChoice) -> None:
    """Become the job of the chosen engine, in its environment. Does not return."""
    path = job.output / f"job-{choice.engine}.json"
    # This process began in time, and goes on: the limit of its start is not checked again.
    _write(path, job, engine=choice.engine, others={}, choice=choice, start_before=None)
    os.execv(job.others[choice.engine], _command(job.others[choice.engine], path))


def _key(job: TrainerJob, device: str, mean_tokens: float) -> str:
    """What the pilots hold for. Lengths within a power of two are one shape."""
    recipe, length = job.recipe, 1 << round(mean_tokens).bit_length()
    targets = recipe.target_modules if isinstance(recipe.target_modules, str) else "+".join(recipe.target_modules)
    shape = f"{recipe.method} r{recipe.r} {targets}, batch {recipe.batch_size}, up to {length} tokens"
    versions = " ".join(f"{engine}: {_versions(python)}" for engine, python in sorted(_candidates(job).items()))
    return f"{device}; {job.base.digest}; {shape}; {versions}"


def _candidates(job: TrainerJob) -> dict[EngineName, str]:
    return {job.engine: sys.executable, **job.others}


def _versions(python: str) -> str:
    packages = Path(python).parents[1].glob("lib/python*/*-packages/*.dist-info")
    found = sorted(package.stem for package in packages if package.stem.rpartition("-")[0] in MEASURED)
    return ", ".join(found)


def _device() -> tuple[str, bool]:
    """The device by name, and whether it is a CPU."""
    import torch  # seconds, which a job without a choice does not wait for

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name()), False
    return f"{cpu_name()}, {torch.get_num_threads()} threads", True


def _flops_per_s() -> float:
    """The rate of matrix products in bfloat16, measured for a moment."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = torch.ones(1024, 1024, dtype=torch.bfloat16, device=device)
    rounds, seconds = 0, 0.0
    began = time.perf_counter()
    while seconds < 0.2:
        _ = float((left @ left)[0, 0])  # read, so that a GPU has finished
        rounds, seconds = rounds + 1, time.perf_counter() - began
    return rounds * 2 * 1024**3 / seconds


def _kept(job: TrainerJob, key: str) -> EngineChoice | None:
    if job.kept is None:
        return None
    try:
        kept = read_model(job.kept, kept_name(key), EngineChoice, LARGEST)
    except OutputError:
        return None
    return kept if kept.engine in _candidates(job) else None


def _pilots(job: TrainerJob, budget: float) -> tuple[Pilot, ...]:
    """Measure every candidate. Each has an even share of what the earlier ones left."""
    ends, pilots = time.monotonic() + budget, []
    candidates = _candidates(job)
    for done, (engine, python) in enumerate(candidates.items()):
        within_s = (ends - time.monotonic()) / (len(candidates) - done)
        pilots.append(_pilot(job, engine, python, within_s))
    return tuple(pilots)


def _pilot(job: TrainerJob, engine: EngineName, python: str, within_s: float) -> Pilot:
    folder, path = job.output / f"pilot-{engine}", job.output / f"pilot-{engine}.json"
    _write(path, job, engine=engine, others={}, output=folder, resume_from=None, pilot=True)
    began = time.monotonic()
    with subprocess.Popen(_command(python, path), stdout=sys.stderr) as child:
        try:
            with suppress(subprocess.TimeoutExpired):
                child.wait(within_s)
        finally:
            child.kill()
    try:
        result = read_model(folder, RESULT_FILE, JobResult, LARGEST)
    except OutputError:
        result = JobResult(ok=False, error=f"no figure within {within_s:.0f} s, exit status {child.returncode}")
    shutil.rmtree(folder, ignore_errors=True)
    return Pilot(
        engine=engine,
        tokens_per_s=result.result.get("tokens_per_s"),
        seconds=round(time.monotonic() - began, 1),
        fault=result.error or "",
    )


def _write(path: Path, job: TrainerJob, **changes: Any) -> None:
    write_atomically(path, job.model_copy(update=changes).model_dump_json(indent=2))


def _command(python: str, path: Path) -> list[str]:
    return [python, "-m", "services.forge.trainer", str(path)]
