"""A real service whose libraries print, warn and raise: every line of its log is one JSON object, in ASCII."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import PROJECT, Settings
from tests.support.noisy import HOSTILE, NOISES
from tests.support.running import eventually

pytestmark = pytest.mark.timeout(120)


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "SOULFORGE_HOME": str(settings.home),
        "SOULFORGE_PORT_BASE": str(settings.port_base),
        "PYTHONPATH": str(PROJECT),
    }


def run(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.noisy", "forge"]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment(settings), cwd=PROJECT, stdout=file, stderr=file)


def objects(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()]


async def test_every_line_is_a_json_object_whatever_libraries_do(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "forge.log"
    process = run(settings, log)

    async def noisy() -> bool:
        return b"noise of loop" in log.read_bytes()

    try:
        await eventually(noisy, 40, "the noise is logged")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()

    lines = objects(log)
    text = "\n".join(str(line) for line in lines)
    assert all(isinstance(line, dict) and line["event"] and line["level"] and line["timestamp"] for line in lines)
    assert [noise for noise in NOISES if f"noise of {noise}" not in text] == []
    exceptions = [line["exception"] for line in lines if "exception" in line]
    for noise in ("loop", "task", "thread", "library", "unraisable", "callback"):
        assert [f"noise of {noise}: {HOSTILE}" in found and "Traceback" in found for found in exceptions].count(
            True
        ) == 1, noise
    assert any(line.get("logger") == "nats.aio.client" and "exception" in line for line in lines)
    assert any(line.get("logger") == "uvicorn.error" for line in lines)
    assert {line["event"] for line in lines} >= {"service started", "service stopped", "printed"}


async def test_the_reason_of_a_start_that_fails_is_logged_too(settings: Settings, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "foreign").touch()
    log = tmp_path / "forge.log"

    process = run(settings.model_copy(update={"home": home}), log)

    assert await asyncio.to_thread(process.wait, 40) == 1
    assert [(line["event"], str(home) in line["text"]) for line in objects(log)] == [("printed", True)]


def test_an_exception_that_nothing_catches_is_one_line() -> None:
    code = (
        "import warnings; from shared.runtime.logs import configure_logging as configure\n"
        "configure('INFO', 'x'); warnings.warn('old')\n"
        "print('unended', end=''); print(); raise ValueError('two\\nlines \\x1b[31m')"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)

    warned, printed, raised = map(json.loads, found.stdout.splitlines())
    assert (found.returncode, found.stderr) == (1, "")
    assert (warned["logger"], "UserWarning: old" in warned["event"]) == ("py.warnings", True)
    assert (printed["event"], printed["text"]) == ("printed", "unended")
    assert (raised["event"], raised["level"], raised["service"]) == ("uncaught exception", "critical", "x")
    assert raised["exception"].endswith("ValueError: two\nlines \x1b[31m")
