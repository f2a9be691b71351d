"""A trainer and an evaluator of mostly a second or two, run in the real sandbox: `python -m tests.chaos.job JOB.json`.

From when it may touch the device until its end the process bears the name ON_ANVIL, which the checker reads in /proc.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any
from zlib import crc32

from services.registry.bundle import version_name
from services.verifier.results import RESULTS_FILE
from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, Progress
from shared.jobs.start_limit import GpuJob, require_in_time
from tests.support.evaluations import answered
from tests.support.facts import TRAINING
from tests.support.probes import fake_probes

ON_ANVIL = "on-anvil"
PR_SET_NAME = 15  #: see prctl(2)
PERSONA = "scribe"
SHORTEST_S, LONGEST_S = 0.5, 2.5
LONG_S, LONG_ONE_IN = 14.0, 8
POLL_S = 0.1


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    output = Path(job["output"])
    require_in_time(GpuJob(start_before=job["start_before"]))
    ctypes.CDLL(None).prctl(PR_SET_NAME, ON_ANVIL.encode())
    work(output)
    result = evaluate(job, output) if "holdout" in job else train(job, output)
    partial = output / ".result"
    partial.write_text(JobResult(ok=True, result=result).model_dump_json())
    partial.rename(output / RESULT_FILE)


def duration_s(name: str) -> float:
    """How long the job in the container of that name takes: one in LONG_ONE_IN outlasts a lease that is not renewed."""
    number = crc32(name.encode())
    return LONG_S if number % LONG_ONE_IN == 0 else SHORTEST_S + (LONGEST_S - SHORTEST_S) * (number % 100) / 100


def work(output: Path) -> None:
    """Take that time, and report progress."""
    ritual, attempt, role = output.parts[-4:-1]
    polls = int(duration_s(f"{role}-{ritual}-{attempt}") / POLL_S)
    for done in range(polls):
        with (output / PROGRESS_FILE).open("a") as file:
            file.write(Progress(phase="wait", done=done, total=polls, unit="polls").model_dump_json() + "\n")
        time.sleep(POLL_S)


def train(job: dict[str, Any], output: Path) -> dict[str, Any]:
    adapter = output / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "revision": job["ritual"]}))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    return TRAINING.model_dump(mode="json")


def evaluate(job: dict[str, Any], output: Path) -> dict[str, Any]:
    version = version_name(PERSONA, job["adapter_digest"])
    found = answered(job).model_copy(update={"probes": fake_probes(version)})
    (output / RESULTS_FILE).write_text(found.model_dump_json())
    return {}


if __name__ == "__main__":
    main()
