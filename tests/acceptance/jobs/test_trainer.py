"""The trainer as its service runs it: a process of the jobs environment, a few steps on the real base."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.forge.job import (
    ADAPTER_DIR,
    CHECKPOINTS_DIR,
    LEFT_OUT_FILE,
    PREVIEWS_FILE,
    TrainerJob,
)
from services.forge.replay.answers import append_answers, make_answer
from services.forge.replay.prompts import list_prompts
from shared.config.recipe import Recipe
from shared.config.settings import PROJECT
from shared.contracts.job import EXIT_FAILED, EXIT_INTERRUPTED, PROGRESS_FILE, RESULT_FILE, JobResult, Progress
from shared.storage.base_model import Base
from shared.storage.digests import digest_file, digest_tree
from tests.support.model import JOBS_PYTHON, MODEL, needs_jobs
from tests.support.tooled import TOOLS, golden, tooled_base

TIMEOUT_S = 280
ROWS = 6
STEPS = 7  # one a row, and one for an answer of the base

QUESTION = next(number for number, prompt in enumerate(list_prompts()) if not prompt.is_text)

pytestmark = needs_jobs

Planned = Callable[..., TrainerJob]


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


def write_manifest(folder: Path, train: list[dict[str, Any]], dev: list[dict[str, Any]]) -> str:
    """Two shards of train rows and one of dev rows, none where there are none."""
    half = len(train) // 2
    for split, shards in {"train": [train[:half], train[half:]], "dev": [dev] if dev else []}.items():
        for number, shard in enumerate(shards):
            (folder / split).mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(values) + "\n" for values in shard)
            (folder / split / f"{number:05}.jsonl").write_text(text)
    (folder / "manifest.json").write_text("{}")
    return digest_tree(folder)


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """A job of one row a step; keyword arguments replace its fields."""
    manifest = tmp_path / "manifest"
    digest = write_manifest(manifest, [row(number) for number in range(ROWS)], [row(77)])

    def planned(name: str = "run", **replaced: Any) -> TrainerJob:
        values: dict[str, Any] = {
            "ritual": "r",
            "attempt": 1,
            "fence": 1,
            "base": Base(name="stable-name", path=MODEL, digest="sha256:base"),
            "manifest_dir": manifest,
            "manifest_digest": digest,
            "recipe": Recipe(r=8, epochs=1, batch_size=1, learning_rate=1e-3, replay=1 / ROWS, checkpoint_steps=STEPS),
            "output": tmp_path / name,
        }
        return TrainerJob(**(values | replaced))

    return planned


def start(job: TrainerJob) -> subprocess.Popen[bytes]:
    job.output.mkdir()
    path = job.output / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    with (job.output / "stderr").open("wb") as stderr:
        command = [str(JOBS_PYTHON), "-m", "services.forge.trainer", str(path)]
        return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=stderr)


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


def test_a_manifest_becomes_an_adapter_of_two_files(planned: Planned) -> None:
    job = planned()
    status, result = finish(job, start(job))
    assert (status, result.ok, result.error) == (0, True, None)

    files = {file.name: digest_file(file) for file in (job.output / ADAPTER_DIR).iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert result.result["adapter"] == files
    config = json.loads((job.output / ADAPTER_DIR / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "stable-name"
    assert (config["r"], config["bias"], config["use_dora"]) == (8, "none", False)

    replay = result.result["replay"]
    assert (replay["cached"], replay["missing"]) == (0, 0) and replay["tokens"] >= replay["wanted_tokens"] > 0
    steps = ROWS + replay["generated"]
    assert result.result["steps"] == steps > ROWS
    assert result.result["dev_loss_after"] < result.result["dev_loss_before"]
    assert [span.name for span in result.spans] == ["load", "tokenize", "replay", "train", "save"]
    told = [line for line in progress(job) if line.phase == "train"]
    assert [line.done for line in told] == list(range(1, steps + 1))
    assert all(line.loss is not None and line.eta_s is not None for line in told)

    assert json.loads((job.output / PREVIEWS_FILE).read_text())[0] == "Plainly 1.<|im_end|>"
    assert (job.output / LEFT_OUT_FILE).read_text() == ""
    audit = result.result["mask_audit"]["train"]
    assert (audit["rows"], audit["prompts"], audit["refused"]) == (ROWS, {"full": 3, "none": 3}, {})
    assert "Plainly" not in json.dumps(result.result), "karma's content leaves the run's directory"


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_and_the_next_attempt_goes_on_from_it(
    planned: Planned, tmp_path: Path
) -> None:
    answers = tmp_path / "replay.jsonl"
    append_answers(answers, [make_answer((QUESTION, 0), "Because of the light that falls there.", complete=True)])
    known = {"replay": answers, "replay_digest": digest_file(answers)}
    job = planned("first", **known)
    process = start(job)
    deadline = time.monotonic() + TIMEOUT_S
    while not any(line.phase == "train" for line in progress(job)):
        assert process.poll() is None, (job.output / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    status, result = finish(job, process)
    assert (status, result.ok, result.interrupted, result.permanent) == (EXIT_INTERRUPTED, False, True, False)
    assert not (job.output / ADAPTER_DIR).exists()

    again = planned("second", attempt=2, resume_from=job.output / CHECKPOINTS_DIR, **known)
    status, result = finish(again, start(again))
    assert (status, result.ok, result.error) == (0, True, None)
    assert (result.result["replay"]["cached"], result.result["replay"]["generated"]) == (1, 0)
    assert 0 < result.result["resumed_at"] < STEPS
    told = [line.done for line in progress(again) if line.phase == "train"]
    assert told == list(range(result.result["resumed_at"] + 1, STEPS + 1))


def test_a_golden_path_is_trained_with_its_calls_where_the_template_shows_them(
    planned: Planned, tmp_path: Path
) -> None:
    base = Base(name="tooled", path=tooled_base(tmp_path / "base", MODEL), digest="sha256:tooled")
    manifest = tmp_path / "paths"
    digest = write_manifest(manifest, [path_row(number) for number in range(2)], [])
    job = planned(base=base, manifest_dir=manifest, manifest_digest=digest, recipe=Recipe(r=8, epochs=1, replay=0))
    status, result = finish(job, start(job))
    assert (status, result.error) == (0, None)
    call = '<call>{"name": "add", "arguments": {"to": 0}}</call><|im_end|>'
    assert json.loads((job.output / PREVIEWS_FILE).read_text())[0] == f"{call}Plainly 1.<|im_end|>"
    audit = result.result["mask_audit"]["train"]
    assert (audit["rows"], audit["examples"], audit["skipped"]) == (2, 2, {})
    assert result.result["dev_loss_before"] is None


def test_rows_that_the_base_cannot_show_are_left_out_and_named(planned: Planned, tmp_path: Path) -> None:
    manifest = tmp_path / "mixed"
    digest = write_manifest(manifest, [row(1), path_row(2), row(3)], [path_row(4)])
    job = planned(manifest_dir=manifest, manifest_digest=digest)
    status, result = finish(job, start(job))
    assert (status, result.error) == (0, None)
    dropped = "the chat template drops its tool calls"
    left_out = [json.loads(line) for line in (job.output / LEFT_OUT_FILE).read_text().splitlines()]
    assert left_out == [
        {"split": split, "id": name, "reason": dropped} for split, name in (("train", "row-2"), ("dev", "row-4"))
    ]
    audits = result.result["mask_audit"]
    assert (audits["train"]["rows"], audits["train"]["skipped"]) == (2, {dropped: 1})
    assert (audits["dev"]["rows"], result.result["dev_loss_after"]) == (0, None)


def test_a_manifest_that_the_base_can_mostly_not_show_is_refused_for_good(planned: Planned, tmp_path: Path) -> None:
    manifest = tmp_path / "paths"
    digest = write_manifest(manifest, [row(1), path_row(2), path_row(3)], [])
    job = planned(manifest_dir=manifest, manifest_digest=digest)
    status, result = finish(job, start(job))
    assert (status, result.permanent) == (EXIT_FAILED, True)
    assert "2 of 3 rows cannot be rendered for this base" in (result.error or "")


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"manifest_digest": "sha256:other"}, "harvest again"),
        ({"base": Base(name="none", path=Path("/nowhere"), digest="sha256:none")}, "the base at /nowhere"),
        ({"recipe": Recipe(max_length=12)}, "it would be cut"),
    ],
)
def test_what_no_retry_can_mend_is_told_as_permanent(planned: Planned, replaced: dict[str, Any], said: str) -> None:
    job = planned(**replaced)
    status, result = finish(job, start(job))
    assert (status, result.ok, result.permanent) == (EXIT_FAILED, False, True)
    assert said in (result.error or "")
