"""The GPU check of the forge, rehearsed on the CPU: the same jobs on a tiny base, one of each engine that is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.config.settings import PROJECT
from tests.support.model import has_unsloth, needs_jobs
from tools.gpu_check.report import Report

pytestmark = needs_jobs


def test_each_engine_is_measured_on_a_base_of_random_weights(tmp_path: Path) -> None:
    runs = ["trl-lora", "unsloth-qlora"]
    command = [sys.executable, "-m", "tools.gpu_check.forge", "--shapes", "tiny", "--runs", ",".join(runs)]
    ended = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=280, check=False
    )

    report = Report.model_validate_json((tmp_path / "result.json").read_bytes())
    assert [f"{run.engine}-{run.method}" for run in report.runs] == runs
    missing = [run.fault for run in report.runs if run.engine == "unsloth"] if not has_unsloth() else []
    assert set(missing) <= {"unsloth is not installed"}
    ran = [run for run in report.runs if not run.fault]
    assert len(ran) == len(report.runs) - len(missing), ended.stdout
    assert ended.returncode == (1 if missing else 0), ended.stderr
    for run in ran:
        assert run.tokens_per_s and run.peak_bytes and run.estimated_bytes and len(run.losses) == 3
        assert abs(run.losses[0] - ran[0].losses[0]) < 0.05, "the same rows and the same weights"
    assert "| tiny | trl | lora |" in (tmp_path / "table.md").read_text()
