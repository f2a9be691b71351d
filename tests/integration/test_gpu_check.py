"""`make gpu-check` without a GPU: what it says, and that it can tell an occupied device from a free one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shared.config.settings import PROJECT

HOLDER = "{python} -c \"import time; held = b'1' * {mib} * 2**20; time.sleep(60)\""


def gpu_check(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "tools.gpu_check.proof", *words),
        env={**os.environ, **environment}, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def with_device(tmp_path: Path, holder: str) -> subprocess.CompletedProcess[str]:
    """Run it with the fake device of tests/support/fakes/nvml: its used memory is that of the processes started with this mark."""
    mark = str(tmp_path / "faults.json")
    words = ("--holder", f"/usr/bin/env FAKE_VLLM_FILE={mark} {holder}", "--free-below-mib", "256")
    return gpu_check(*words, PYTHONPATH=str(PROJECT / "tests/support/fakes/nvml"), FAKE_VLLM_FILE=mark)


def test_without_a_device_it_says_so_and_fails() -> None:
    found = gpu_check()

    assert found.returncode == 1
    assert "NVIDIA devices" in found.stderr
    assert "Traceback" not in found.stderr


def test_memory_that_is_taken_is_objected_to_and_found_free_after_the_stop(tmp_path: Path) -> None:
    found = with_device(tmp_path, HOLDER.format(python=sys.executable, mib=2200))

    assert found.returncode == 0, found.stderr
    assert "the proof objects" in found.stdout
    assert "free again" in found.stdout


def test_a_holder_that_takes_nothing_is_a_failed_check(tmp_path: Path) -> None:
    found = with_device(tmp_path, f"{sys.executable} -c 'raise SystemExit(3)'")

    assert found.returncode == 1
    assert "the memory was not taken" in found.stderr
