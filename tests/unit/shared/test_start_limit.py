"""Trainer and evaluator leave the anvil alone where they begin after the end of their lease."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.forge.job import TrainerJob
from services.verifier.job import EvaluatorJob
from shared.config.recipe import Recipe
from shared.config.settings import PROJECT
from shared.contracts.job import RESULT_FILE, JobResult
from shared.jobs.start_limit import GpuJob, boot_time
from shared.storage.base_model import Base

PASSED_S = 100


def trainer_job(folder: Path, **common: Any) -> TrainerJob:
    base = Base(name="base", path=folder / "base", digest="sha256:b")
    manifest = {"manifest_dir": folder / "manifest", "manifest_digest": "sha256:m"}
    return TrainerJob(ritual="r", base=base, recipe=Recipe(), **manifest, **common)


def evaluator_job(folder: Path, **common: Any) -> EvaluatorJob:
    holdout = {"holdout": folder / "holdout", "holdout_digest": "sha256:h"}
    base = {"base": folder / "base", "base_digest": "sha256:b"}
    return EvaluatorJob(ritual=UUID(int=1), suites=folder / "suites", **base, **holdout, **common)


def result_of(module: str, job: GpuJob, output: Path) -> JobResult:
    job_file = output.parent / "job.json"
    job_file.write_text(job.model_dump_json())
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-m", module, str(job_file)], env=environment, check=False, capture_output=True)
    return JobResult.model_validate_json((output / RESULT_FILE).read_bytes())


@pytest.mark.parametrize(
    ("module", "make"),
    [("services.forge.trainer", trainer_job), ("services.verifier.evaluator", evaluator_job)],
    ids=["trainer", "evaluator"],
)
def test_a_job_that_begins_after_the_end_of_its_lease_does_nothing(module: str, make: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    common = {"attempt": 1, "fence": 1, "output": output}

    late = result_of(module, make(tmp_path, **common, start_before=boot_time() - PASSED_S), output)
    assert "after the end of its lease" in (late.error or "")
    assert not late.permanent

    in_time = result_of(module, make(tmp_path, **common, start_before=boot_time() + PASSED_S), output)
    assert in_time.error and "lease" not in in_time.error, "it goes on to its inputs, which are not there"
