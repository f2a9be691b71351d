"""What the benches of jobs share: rows of the example karma, and a job run to its end as its service runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from services.forge.job import TrainerJob
from services.verifier.job import EvaluatorJob
from shared.config.recipe import Recipe
from shared.config.settings import PROJECT
from shared.config.tables import JobsConfig
from shared.contracts.forge import EngineName
from shared.contracts.job import RESULT_FILE, JobResult
from shared.jobs.runner import job_environment
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree

MODELS = Path(os.environ.get("SOULFORGE_MODELS", PROJECT / ".cache" / "models"))
JOB_S = 4 * 3600


def trainer_job(
    base: Base, manifest: Path, recipe: Recipe, output: Path, seed: int, engine: EngineName = "trl"
) -> TrainerJob:
    """The first attempt at a training, with no earlier answers of the base."""
    return TrainerJob(
        ritual="bench",
        attempt=1,
        fence=1,
        base=base,
        manifest_dir=manifest,
        manifest_digest=digest_tree(manifest),
        recipe=recipe,
        output=output,
        engine=engine,
        seed=seed,
    )


def start_job(module: str, job: TrainerJob | EvaluatorJob, environment: dict[str, str] | None = None) -> JobResult:
    """Run a job to its end, in the environment of its engine. Exits with its error where it fails."""
    output: Path = job.output
    (output / "tmp").mkdir(parents=True)
    path = output / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    engine = job.engine if isinstance(job, TrainerJob) else "trl"
    command = [JobsConfig().environment(engine).python, "-m", module, str(path)]
    process = subprocess.run(
        command,
        cwd=output,
        env=job_environment(output, PROJECT) | (environment or {}),
        capture_output=True,
        text=True,
        timeout=JOB_S,
        check=False,
    )
    if not (output / RESULT_FILE).is_file():
        sys.exit(process.stderr[-2000:])
    result = JobResult.model_validate_json((output / RESULT_FILE).read_bytes())
    return result if result.ok else sys.exit(str(result.error))


def split(personas: Sequence[str], rows: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows to train on, at most so many, and those of every fifth session."""
    files = [PROJECT / "examples" / "karma" / f"{persona}.jsonl" for persona in personas]
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    sessions = sorted({record["session"] for record in records})
    held_out = set(sessions[::5])
    made = [
        {
            "id": record["id"],
            "session": record["session"],
            "messages": record["messages"],
            "checks": record["outcome"].get("checks", []),
            "prompt": "none" if number % 5 else "full",
        }
        for number, record in enumerate(records)
    ]
    trained = [row for row in made if row["session"] not in held_out][:rows]
    return trained, [row for row in made if row["session"] in held_out][: max(rows // 4, 1)]


def write_rows(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "00000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
