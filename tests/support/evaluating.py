"""Evaluator jobs as their service runs them: a process of the jobs environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

from services.verifier.job import EvaluatorJob
from services.verifier.results import RESULTS_FILE, Results
from shared.config.settings import PROJECT
from shared.contracts.job import RESULT_FILE, JobResult
from shared.storage.digests import digest_tree
from tests.support.model import JOBS_PYTHON, MODEL

TIMEOUT_S = 280

HOLDOUT: list[dict[str, Any]] = [
    {
        "id": f"h{number}",
        "session": f"s{number}",
        "messages": [
            {"role": "system", "content": "Answer with one word."},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ],
        "checks": [{"kind": "contains", "text": answer}] if number else [],
    }
    for number, (question, answer) in enumerate([("Name a color.", "Red"), ("What is the capital of France?", "Paris")])
]


def write_holdout(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """One row a shard."""
    (folder / "holdout").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    for number, row in enumerate(rows):
        (folder / "holdout" / f"{number:05}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return folder


def write_suite(folder: Path, described: dict[str, Any], tasks: dict[str, list[dict[str, Any]]]) -> Path:
    """A suite with the items of its tasks, into the folder of suites."""
    (folder / described["name"]).mkdir(parents=True)
    values = {"version": 1, "about": "For a test.", "tasks": list(tasks)} | described
    (folder / f"{described['name']}.yaml").write_text(json.dumps(values), encoding="utf-8")
    for task, rows in tasks.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / described["name"] / f"{task}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def evaluate(output: Path, suites: Path, **replaced: Any) -> JobResult:
    """Run one evaluation; keyword arguments replace fields of its job."""
    output.mkdir()
    holdout = replaced.pop("holdout", None) or write_holdout(output.with_name(f"{output.name}-holdout"), HOLDOUT)
    base, timeout_s = replaced.pop("base", MODEL), replaced.pop("timeout_s", TIMEOUT_S)
    job = {
        "ritual": UUID(int=1),
        "attempt": 1,
        "fence": 1,
        "base": base,
        "base_digest": digest_tree(base),
        "holdout": holdout,
        "holdout_digest": digest_tree(holdout),
        "suites": suites,
        "output": output,
        "answer_max_tokens": 6,
    } | replaced
    (output / "job.json").write_text(EvaluatorJob.model_validate(job).model_dump_json(), encoding="utf-8")
    command = [str(JOBS_PYTHON), "-m", "services.verifier.evaluator", str(output / "job.json")]
    # Nothing of the house's environment, as the jail gives it.
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(output), "PYTHONPATH": str(PROJECT)}
    process = subprocess.run(
        command, cwd=output, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert (output / RESULT_FILE).is_file(), process.stderr[-3000:]
    return JobResult.model_validate_json((output / RESULT_FILE).read_bytes())


def read(output: Path) -> Results:
    return Results.model_validate_json((output / RESULTS_FILE).read_bytes())
