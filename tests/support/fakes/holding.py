"""How a test holds the short jobs: a file in the project's cache, which the sandbox shows them read-only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, JobSpan, Progress

REHEARSAL = Path(__file__).resolve().parents[3] / ".cache" / "rehearsal"
POLL_S = 0.1
LONGEST_S = 300


def held(role: str) -> Path:
    """While this file is there, the job of that role waits."""
    return REHEARSAL / f"hold-{role}"


def hold(role: str, output: Path) -> None:
    for second in range(int(LONGEST_S / POLL_S)):
        progress = Progress(phase="rehearse", done=second, total=second + 1, unit="polls")
        with (output / PROGRESS_FILE).open("a") as file:
            file.write(progress.model_dump_json() + "\n")
        if not held(role).exists():
            return
        time.sleep(POLL_S)
    raise SystemExit(f"{held(role)} was never removed")


def conclude(output: Path, result: dict[str, Any]) -> None:
    now = time.time_ns()
    done = JobResult(ok=True, spans=(JobSpan(name="rehearse", start_ns=now - 10**9, end_ns=now),), result=result)
    partial = output / ".result"
    partial.write_text(done.model_dump_json())
    partial.rename(output / RESULT_FILE)
