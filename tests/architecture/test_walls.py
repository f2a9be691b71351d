"""The walls of the house: import contracts, and the same anatomy in every service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.services import SERVICES
from shared.config.settings import PROJECT


def test_the_import_contracts_hold() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_built_alike(service: str) -> None:
    folder = PROJECT / "services" / service

    assert {"app.py", "reconcile.py", "settings.py"} <= {path.name for path in folder.iterdir()}


def test_only_settings_modules_and_job_entries_read_the_environment() -> None:
    readers = {
        str(path.relative_to(PROJECT))
        for ring in ("shared", "services", "deploy")
        for path in (PROJECT / ring).rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }

    assert readers <= {
        "services/forge/trainer/__main__.py",
        "services/verifier/evaluator/__main__.py",
        "deploy/embedded/stack.py",
        "shared/drivers/inference/gate/asgi.py",  # runs inside an engine
    }
