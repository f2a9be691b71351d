"""The script of docs/from-openai.md, run as it is shown there, and what a second client does meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import openai
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from shared.config.tables import EMBEDDED_BASE
from tests.support.documented import list_code_blocks
from tests.support.running import COMMAND_S, Stack

SCRIPT = next(block.text for block in list_code_blocks("python") if block.document == "docs/from-openai.md")
SOON_S = 600
T = TypeVar("T")


@dataclass(frozen=True)
class ScriptRun:
    """What the script printed, its job at the end, and the states that the second job was in."""

    output: str
    job: FineTuningJob
    events: list[FineTuningJobEvent]
    checkpoints: list[FineTuningJobCheckpoint]
    second: list[FineTuningJob]


def run_script(stack: Stack, karma: Path, folder: Path) -> ScriptRun:
    """Run the script on the white truths of a file of karma; ask for a second job while the first one runs."""
    secret = stack.run(
        "keys", "add", "ada", *(f"--scope={one}" for one in ("chat", "train", "consecrate"))
    ).stdout.strip()
    url = f"{stack.settings.gateway_url}/v1"
    (folder / "examples.jsonl").write_text("".join(as_examples(karma)))
    environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": secret}
    log = folder / "script.log"
    with log.open("wb") as output, openai.OpenAI(base_url=url, api_key=secret) as client:
        script = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], cwd=folder, env=environment, stdout=output, stderr=output
        )
        try:
            second = list(ask_for_another(client))
            assert script.wait(COMMAND_S) == 0, log.read_text()
        finally:
            script.kill()
        jobs = client.fine_tuning.jobs
        [first] = [job for job in jobs.list() if job.id != second[0].id]
        return ScriptRun(
            log.read_text(), first, list(jobs.list_events(first.id)), list(jobs.checkpoints.list(first.id)), second
        )


def as_examples(karma: Path) -> list[str]:
    """The white truths of a file of karma as lines of OpenAI's form, with no word beyond that form."""
    records: list[dict[str, Any]] = [json.loads(line) for line in karma.read_text().splitlines()]
    return [
        json.dumps({"messages": record["messages"]}) + "\n" for record in records if record["status"] == "white_truth"
    ]


def ask_for_another(client: openai.OpenAI) -> list[FineTuningJob]:
    """A second job of the same file: it waits behind the first, is paused, resumed and cancelled. Returns its states."""
    jobs = client.fine_tuning.jobs
    first = wait_for(lambda: next(iter(jobs.list()), None), lambda job: job is not None)
    assert first
    wait_for(lambda: jobs.retrieve(first.id), lambda job: job.status == "running")
    made = jobs.create(model=EMBEDDED_BASE, training_file=first.training_file, suffix="scribe")

    def becomes(holds: Callable[[FineTuningJob], bool]) -> FineTuningJob:
        return wait_for(lambda: jobs.retrieve(made.id), holds)

    states = [made, becomes(is_in_the_queue)]
    jobs.pause(made.id)
    states.append(becomes(lambda job: "resume" in waits_for(job)))
    jobs.resume(made.id)
    states.append(becomes(is_in_the_queue))
    jobs.cancel(made.id)
    return [*states, becomes(lambda job: job.status == "cancelled")]


def waits_for(job: FineTuningJob) -> str:
    return str((job.model_extra or {})["soulforge"]["waits_for"] or "")


def is_in_the_queue(job: FineTuningJob) -> bool:
    return job.status == "queued" and waits_for(job) != "" and "resume" not in waits_for(job)


def wait_for(read: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """Read until it holds, SOON_S at most."""
    deadline = monotonic() + SOON_S
    while not holds(found := read()):
        assert monotonic() < deadline, found
        sleep(0.5)
    return found
