"""The prepared base model of tests with a real engine or a real job: SOULFORGE_TEST_MODEL, else what `make test` prepares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.config.settings import PROJECT
from shared.config.tables import JobsConfig

MODEL = Path(os.environ.get("SOULFORGE_TEST_MODEL", PROJECT / ".cache" / "models" / "smollm2-135m-instruct"))
JOBS_PYTHON = JobsConfig().python

needs_jobs = pytest.mark.skipif(
    not MODEL.is_dir() or not JOBS_PYTHON.is_file(),
    reason=f"needs a base model in {MODEL} and the jobs environment at {JOBS_PYTHON}: `make test` prepares both",
)

RAY_PYTHON = JobsConfig().forge.python
REQUIRE_RAY = "SOULFORGE_REQUIRE_RAY"
UNSLOTH_PYTHON = JobsConfig().unsloth.python
REQUIRE_UNSLOTH = "SOULFORGE_REQUIRE_UNSLOTH"


def require_ray() -> None:
    """Skip where Ray's environment is not installed; fail instead with SOULFORGE_REQUIRE_RAY=1."""
    if not RAY_PYTHON.is_file():
        reason = f"needs Ray's environment at {RAY_PYTHON}: `make setup-ray` installs it"
        (pytest.fail if os.environ.get(REQUIRE_RAY) == "1" else pytest.skip)(reason)


def has_unsloth() -> bool:
    """Whether Unsloth's environment is here, or must be."""
    return UNSLOTH_PYTHON.is_file() or os.environ.get(REQUIRE_UNSLOTH) == "1"


def require_unsloth() -> None:
    """Skip where Unsloth's environment is not installed; fail instead with SOULFORGE_REQUIRE_UNSLOTH=1."""
    if UNSLOTH_PYTHON.is_file():
        return
    reason = f"needs Unsloth's environment at {UNSLOTH_PYTHON}: `make setup-unsloth` installs it"
    if has_unsloth():
        pytest.fail(reason)
    pytest.skip(reason)
