"""Train with every engine and method on bases of random weights, and compare: `python -m tools.gpu_check.forge`.

Each run is the product's own trainer job, in the environment of its engine. The device is named by what ran on it.
"""

from __future__ import annotations

import random
import string
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, NamedTuple

import typer

from services.forge.job import TrainerJob
from services.forge.trainer.rows import TRAIN, Row
from shared.config.engines import METHODS
from shared.config.recipe import Recipe
from shared.config.settings import PROJECT
from shared.config.tables import JobsConfig
from shared.contracts.forge import EngineName, TrainingFigures
from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, Progress
from shared.jobs.runner import job_environment
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree
from shared.storage.untrusted import MIB, OutputError, read_model
from tools.gpu_check.random_base import SHAPES
from tools.gpu_check.report import Report, Run, line, steady_rate, table

LEAST_S = 15.0  #: with less time left no run is begun
LOG_TAIL = 1500  # characters
EVERY = {f"{engine}-{method}": (engine, method) for engine in METHODS for method in sorted(METHODS[engine])}


class Load(NamedTuple):
    """What is trained: so many steps of so many rows, of between `shortest` and `longest` tokens."""

    steps: int
    rows: int
    shortest: int
    longest: int


LOAD, LOADS = Load(12, 8, 256, 768), {"tiny": Load(3, 2, 24, 72)}


def main(
    shapes: Annotated[str, typer.Option(help=f"Bases, of {', '.join(SHAPES)}, separated by commas.")] = "0.6B,8B",
    runs: Annotated[str, typer.Option(help="Engines and methods; default: all.")] = ",".join(EVERY),
    within_s: Annotated[float, typer.Option(min=1, help="Seconds for all of them; what is left is not run.")] = 400,
    output: Annotated[Path, typer.Option(help="Folder for the figures and their table.")] = PROJECT / ".gpu-check",
) -> None:
    """Measure speed, memory and losses of the forge on this device. The temporary folder must hold the largest base."""
    ends, done = monotonic() + within_s, list[Run]()
    output.mkdir(parents=True, exist_ok=True)
    for shape in shapes.split(","):
        with tempfile.TemporaryDirectory(prefix="soulforge-gpu-check-") as folder:
            for run in measure(shape, runs.split(","), Path(folder), ends):
                typer.echo(line(run))
                done.append(run)
                report = Report(
                    date=f"{datetime.now(UTC):%Y-%m-%d}",
                    device=next((run.device for run in done if run.device), "no device"),
                    runs=tuple(done),
                )
                (output / "result.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
                (output / "table.md").write_text(table(report), encoding="utf-8")
    raise typer.Exit(1 if any(run.fault for run in done) else 0)


def measure(shape: str, runs: Sequence[str], folder: Path, ends: float) -> Iterator[Run]:
    """Do these runs on a base of that shape, in `folder`, until the time is over."""
    base, manifest, load = folder / "base", folder / "manifest", LOADS.get(shape, LOAD)
    fault = make_base(shape, base, ends)
    write_rows(manifest / TRAIN / "00000.jsonl", load)
    digest = digest_tree(manifest)
    for name in runs:
        engine, method = EVERY[name]
        job = TrainerJob(
            ritual="gpu-check",
            attempt=1,
            fence=1,
            base=Base(name=shape, path=base, digest="sha256:random"),
            manifest_dir=manifest,
            manifest_digest=digest,
            recipe=recipe(engine, method, load),
            output=folder / name,
            engine=engine,
        )
        yield Run(base=shape, engine=engine, method=method, seconds=0, fault=fault) if fault else train(job, ends)


def make_base(shape: str, folder: Path, ends: float) -> str:
    """Make the base; returns why that failed, or nothing."""
    command = [str(JobsConfig().python), "-m", "tools.gpu_check.random_base", shape, str(folder)]
    try:
        made = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, timeout=max(ends - monotonic(), 1), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the base was not made: {error}"
    return "" if made.returncode == 0 else f"the base was not made: {made.stderr[-LOG_TAIL:]}"


def write_rows(shard: Path, load: Load) -> None:
    """Write rows of random letters. Tokens are bytes: the lengths are those of `load`, the template's few come on top."""
    draw = random.Random(0)
    rows = []
    for number in range(load.steps * load.rows):
        text = "".join(draw.choices(string.ascii_lowercase, k=draw.randint(load.shortest, load.longest)))
        cut = len(text) // 4
        messages = ({"role": "user", "content": text[:cut]}, {"role": "assistant", "content": text[cut:]})
        rows.append(Row(id=f"row-{number}", messages=messages, prompt="full").model_dump_json() + "\n")
    shard.parent.mkdir(parents=True)
    shard.write_text("".join(rows), encoding="utf-8")


def recipe(engine: EngineName, method: str, load: Load) -> Recipe:
    """One pass over the rows with the values of the shipped recipe, without evaluation."""
    return Recipe.model_validate(
        {"engine": engine, "method": method, "epochs": 1, "batch_size": load.rows, "replay": 0, "keep_best": False}
        | {"checkpoint_steps": load.steps}
    )


def train(job: TrainerJob, ends: float) -> Run:
    """Run one trainer job to its end, or to the end of the time."""
    environment, began = JobsConfig().environment(job.engine), monotonic()
    if environment.missing:
        return _run(job, began, fault=f"{job.engine} is not installed")
    if ends - began < LEAST_S:
        return _run(job, began, fault="no time was left")
    (job.output / "tmp").mkdir(parents=True)
    path = job.output / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    command = [environment.python, "-m", "services.forge.trainer", str(path)]
    with (
        (job.output / "log").open("wb") as log,
        subprocess.Popen(
            command, cwd=job.output, env=job_environment(job.output, PROJECT), stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            process.wait(ends - began)
        except subprocess.TimeoutExpired:
            process.kill()
    try:
        result = read_model(job.output, RESULT_FILE, JobResult, MIB)
    except OutputError:
        tail = (job.output / "log").read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]
        return _run(job, began, fault=f"no result, exit status {process.returncode}: {tail}")
    if not result.ok:
        return _run(job, began, fault=result.error or "no reason")
    return _measured(job, began, TrainingFigures.model_validate(result.result))


def _measured(job: TrainerJob, began: float, figures: TrainingFigures) -> Run:
    lines = (job.output / PROGRESS_FILE).read_text(encoding="utf-8").splitlines()
    steps = [step for step in map(Progress.model_validate_json, lines) if step.phase == "train"]
    return _run(job, began).model_copy(
        update={
            "tokens_per_s": steady_rate(steps),
            "peak_bytes": figures.memory.peak,
            "estimated_bytes": figures.memory.estimated,
            "losses": tuple(step.loss for step in steps if step.loss is not None),
            "device": figures.provenance.device,
            "versions": figures.versions,
        }
    )


def _run(job: TrainerJob, began: float, fault: str = "") -> Run:
    seconds = round(monotonic() - began, 1)
    return Run(base=job.base.name, engine=job.engine, method=job.recipe.method, seconds=seconds, fault=fault)


if __name__ == "__main__":
    typer.run(main)
