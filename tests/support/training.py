"""Trainer jobs as their service runs them: a process of the jobs environment, a few steps on the real base."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from services.forge.job import CHECKPOINTS_DIR, TrainerJob
from services.forge.replay.answers import append_answers, make_answer
from services.forge.replay.prompts import list_prompts
from shared.config.recipe import Recipe
from shared.config.settings import PROJECT
from shared.config.tables import JobsConfig
from shared.contracts.forge import EngineName
from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, Progress
from shared.storage.base_model import Base
from shared.storage.digests import digest_file, digest_tree
from tests.support.model import MODEL
from tests.support.tooled import TOOLS, golden

TIMEOUT_S = 280
ROWS = 6
# Two passes over the rows and one answer of the base, in steps of two examples, each in two parts.
RECIPE = Recipe(
    r=8,
    dropout=0.1,
    epochs=2,
    batch_size=2,
    micro_batch=1,
    learning_rate=1e-3,
    schedule="cosine",
    replay=1 / ROWS,
    checkpoint_steps=3,
)
STEPS = 8
QUESTION = next(number for number, prompt in enumerate(list_prompts()) if not prompt.is_text)


class Trained(NamedTuple):
    """A run of two passes over the rows that was asked to stop after its first step, and the attempt that went on."""

    first: TrainerJob
    stopped: tuple[int, JobResult]
    job: TrainerJob
    resumed: tuple[int, JobResult]


TRAINED: tuple[tuple[EngineName, str], ...] = (("trl", "lora"), ("unsloth", "lora"), ("unsloth", "qlora"))
Training = Callable[[EngineName, str], Trained]


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A short row; every other one is to be trained without its system prompt."""
    return {
        "id": f"row-{number}",
        "session": "s",
        "messages": [
            {"role": "system", "content": "Answer with one word."},
            {"role": "user", "content": f"What comes after {number}?"},
            {"role": "assistant", "content": f"Plainly {number + 1}."},
        ],
        "checks": [],
        "prompt": "none" if number % 2 else "full",
    } | changes


def path_row(number: int) -> dict[str, Any]:
    return row(number, messages=golden(number), tools=TOOLS, prompt="none")


def pair_row(number: int) -> dict[str, Any]:
    """A short correction; both answers to a question that no `row` asks."""
    messages = row(number)["messages"]
    asked = [messages[0], {"role": "user", "content": f"And what comes before {number}?"}]
    answers = f"Plainly {number - 1}.", f"Sure! It is a pleasure to help: {number - 1}, I would say."
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in answers)
    return {"id": f"pair-{number}", "prompt": asked, "form": "full", "chosen": chosen, "rejected": rejected}


def write_manifest(
    folder: Path, train: list[dict[str, Any]], dev: list[dict[str, Any]], **others: list[dict[str, Any]]
) -> str:
    """Two shards of train rows, one of dev rows and one of each other kind, none where there are none."""
    half = len(train) // 2
    single = {kind: [rows] for kind, rows in {"dev": dev, **others}.items() if rows}
    for split, shards in {"train": [train[:half], train[half:]], **single}.items():
        for number, shard in enumerate(shards):
            (folder / split).mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(values) + "\n" for values in shard)
            (folder / split / f"{number:05}.jsonl").write_text(text)
    (folder / "manifest.json").write_text("{}")
    return digest_tree(folder)


def planned(manifest: Path, digest: str, output: Path, **replaced: Any) -> TrainerJob:
    """A job of RECIPE; keyword arguments replace its fields."""
    answers = output.with_name("replay.jsonl")
    if not answers.exists():
        append_answers(answers, [make_answer((QUESTION, 0), "Because of the light that falls there.", complete=True)])
    values: dict[str, Any] = {
        "ritual": "r",
        "attempt": 1,
        "fence": 1,
        "base": Base(name="stable-name", path=MODEL, digest="sha256:base"),
        "manifest_dir": manifest,
        "manifest_digest": digest,
        "recipe": RECIPE,
        "replay": answers,
        "replay_digest": digest_file(answers),
        "output": output,
    }
    return TrainerJob(**(values | replaced))


def start(job: TrainerJob, **environment: str) -> subprocess.Popen[bytes]:
    job.output.mkdir()
    path = job.output / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    with (job.output / "stderr").open("wb") as stderr:
        command = [JobsConfig().environment(job.engine).python, "-m", "services.forge.trainer", str(path)]
        env = os.environ | environment
        return subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=stderr)


def finish(job: TrainerJob, process: subprocess.Popen[bytes]) -> tuple[int, JobResult]:
    try:
        status = process.wait(TIMEOUT_S)
    finally:
        process.kill()
    assert (job.output / RESULT_FILE).is_file(), (job.output / "stderr").read_text()
    return status, JobResult.model_validate_json((job.output / RESULT_FILE).read_text())


def progress(job: TrainerJob) -> list[Progress]:
    path = job.output / PROGRESS_FILE
    return [Progress.model_validate_json(line) for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for_step(job: TrainerJob, step: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not any(line.phase == "train" and line.done >= step for line in progress(job)):
        assert time.monotonic() < deadline, (job.output / "stderr").read_text()
        time.sleep(0.02)


def train_in_two_attempts(folder: Path, engine: EngineName, method: str) -> Trained:
    """Train every row twice, one a step; the first attempt is asked to stop once it has made a step."""
    manifest = folder / "manifest"
    digest = write_manifest(manifest, [row(number) for number in range(ROWS)], [row(77)])
    values = {"engine": engine, "method": method, "replay": 0, "batch_size": 1, "checkpoint_steps": 2 * ROWS}
    recipe = RECIPE.model_copy(update=values)
    first = planned(manifest, digest, folder / "first", engine=engine, recipe=recipe)
    process = start(first)
    wait_for_step(first, 1)
    process.terminate()
    stopped = finish(first, process)
    earlier = first.output / CHECKPOINTS_DIR
    again = planned(manifest, digest, folder / "second", engine=engine, recipe=recipe, attempt=2, resume_from=earlier)
    return Trained(first, stopped, again, finish(again, start(again)))
