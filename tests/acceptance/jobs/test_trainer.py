"""The trainer as its service runs it: a process of the jobs environment, a few steps on the real base."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE, LEFT_OUT_FILE, PREVIEWS_FILE, TrainerJob
from services.forge.trainer.checkpoints import newest
from shared.config.recipe import Recipe
from shared.contracts.forge import TrainingFigures
from shared.contracts.job import EXIT_FAILED, EXIT_INTERRUPTED, JobResult
from shared.storage.base_model import Base
from shared.storage.digests import digest_file
from tests.support.full_disk import small_disk
from tests.support.model import MODEL, needs_jobs
from tests.support.tooled import TOOLS, golden, tooled_base
from tests.support.training import (
    RECIPE,
    ROWS,
    STEPS,
    TIMEOUT_S,
    finish,
    path_row,
    progress,
    row,
    start,
    wait_for_step,
    write_manifest,
)
from tests.support.training import (
    planned as plan,
)

pytestmark = needs_jobs

Planned = Callable[..., TrainerJob]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("manifest")
    return folder, write_manifest(folder, [row(number) for number in range(ROWS)], [row(77)])


@pytest.fixture
def planned(manifest: tuple[Path, str], tmp_path: Path) -> Planned:
    """A job on the manifest; keyword arguments replace its fields."""

    def planned(name: str = "run", **replaced: Any) -> TrainerJob:
        return plan(*manifest, tmp_path / name, **replaced)

    return planned


@pytest.fixture(scope="module")
def uninterrupted(manifest: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainerJob, JobResult]:
    job = plan(*manifest, tmp_path_factory.mktemp("uninterrupted") / "run")
    status, result = finish(job, start(job))
    assert (status, result.ok, result.error) == (0, True, None)
    return job, result


def test_a_manifest_becomes_an_adapter_of_two_files(uninterrupted: tuple[TrainerJob, JobResult]) -> None:
    job, result = uninterrupted
    files = {file.name: digest_file(file) for file in (job.output / ADAPTER_DIR).iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert result.result["adapter"] == files
    config = json.loads((job.output / ADAPTER_DIR / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "stable-name"
    assert (config["r"], config["bias"], config["use_dora"], config["use_rslora"]) == (8, "none", False, False)

    replay = result.result["replay"]
    assert (replay["cached"], replay["generated"], replay["missing"], result.result["steps"]) == (1, 0, 0, STEPS)
    assert result.result["dev_loss_after"] < result.result["dev_loss_before"]
    assert [span.name for span in result.spans] == ["load", "tokenize", "replay", "train", "save"]
    audit = result.result["mask_audit"]["train"]
    assert (audit["rows"], audit["prompts"], audit["refused"]) == (ROWS, {"full": 3, "none": 3}, {})


def test_every_step_is_reported_and_every_checkpoint_with_its_losses(
    uninterrupted: tuple[TrainerJob, JobResult],
) -> None:
    job, result = uninterrupted
    told = [line for line in progress(job) if line.phase == "train"]
    assert [line.done for line in told] == list(range(1, STEPS + 1))
    assert all(line.loss is not None and line.eta_s is not None for line in told)
    assert all(line.tokens_per_s and line.learning_rate is not None and line.memory_bytes for line in told)
    assert told[-1].tokens == result.result["seen_tokens"]

    figures = result.result["checkpoints"]
    assert [figure["step"] for figure in figures] == [3, 6, STEPS]
    assert figures[-1]["loss"] == result.result["final_loss"]
    dev_losses = {figure["step"]: figure["dev_loss"] for figure in figures}
    assert dev_losses[result.result["taken"]] == min(dev_losses.values()) == result.result["dev_loss_after"]

    saved = {line.done: line.dev_loss for line in progress(job) if line.phase == "checkpoint"}
    assert saved == {0: result.result["dev_loss_before"], **dev_losses}
    assert [line.dev_loss for line in told] == [saved[step // 3 * 3] for step in range(STEPS)]


def test_a_run_whose_time_is_over_ends_with_a_checkpoint_and_its_adapter(planned: Planned) -> None:
    job = planned("short", recipe=RECIPE.model_copy(update={"seconds": 0.001}))
    status, result = finish(job, start(job))

    figures = TrainingFigures.model_validate(result.result)
    assert (status, result.error, figures.steps, figures.taken) == (0, None, 1, 1)
    assert figures.ended_early == "its 0.001 s were over" and figures.seconds > 0
    assert [figure.step for figure in figures.checkpoints] == [1] and figures.dev_loss_after is not None
    assert (job.output / ADAPTER_DIR).is_dir()


def test_the_trained_text_stays_in_the_run_and_what_it_was_made_from_is_pinned(
    uninterrupted: tuple[TrainerJob, JobResult],
) -> None:
    job, result = uninterrupted
    assert json.loads((job.output / PREVIEWS_FILE).read_text())[0] == "Plainly 1.<|im_end|>"
    assert (job.output / LEFT_OUT_FILE).read_text() == ""
    assert "Plainly" not in json.dumps(result.result), "karma's content leaves the run's directory"

    origin = result.result["provenance"]
    assert (origin["manifest"], origin["base"], origin["seed"]) == (job.manifest_digest, "sha256:base", 0)
    digests = ("tokenizer", "template", "recipe", "examples", "code", "lock")
    assert all(origin[name].startswith("sha256:") for name in digests) and "threads" in origin["device"]


def test_a_run_that_is_stopped_and_then_killed_goes_on_exactly(
    planned: Planned, uninterrupted: tuple[TrainerJob, JobResult]
) -> None:
    first = planned("first")
    process = start(first)
    wait_for_step(first, 1)
    process.terminate()
    status, result = finish(first, process)
    assert (status, result.ok, result.interrupted, result.permanent) == (EXIT_INTERRUPTED, False, True, False)
    assert not (first.output / ADAPTER_DIR).exists()

    second = planned("second", attempt=2, resume_from=first.output / CHECKPOINTS_DIR)
    process = start(second)
    wait_for_step(second, 5)
    process.send_signal(signal.SIGKILL)
    process.wait(TIMEOUT_S)

    third = planned("third", attempt=3, resume_from=second.output / CHECKPOINTS_DIR)
    status, result = finish(third, start(third))
    assert (status, result.ok, result.error) == (0, True, None)
    resumed_at = result.result["resumed_at"]
    assert 3 <= resumed_at < STEPS
    told = [line.done for line in progress(third) if line.phase == "train"]
    assert told == list(range(resumed_at + 1, STEPS + 1))
    # Dropout, order, schedule, optimizer, sums of tokens, and the checkpoint that was taken.
    whole = uninterrupted[1].result
    for figure in ("adapter", "checkpoints", "taken", "seen_tokens", "dev_loss_before", "dev_loss_after"):
        assert result.result[figure] == whole[figure], figure


def test_a_disk_that_fills_up_in_a_save_leaves_the_earlier_checkpoint(planned: Planned, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "48m"):  # one checkpoint takes some 33 MB
        job = planned("disk/run")
        # Its result may find no room either: its service then reads the log, and tries again.
        assert start(job).wait(TIMEOUT_S) != 0
        left = job.output / CHECKPOINTS_DIR
        run = json.loads((left / "checkpoint-3" / IDENTITY_FILE).read_text())["run"]
        assert newest(left, run) == left / "checkpoint-3"
        assert (left / "checkpoint-6").is_dir() and not (left / "checkpoint-6" / IDENTITY_FILE).exists()


def test_a_golden_path_is_trained_with_its_calls_where_the_template_shows_them(
    planned: Planned, tmp_path: Path
) -> None:
    base = Base(name="tooled", path=tooled_base(tmp_path / "base", MODEL), digest="sha256:tooled")
    manifest = tmp_path / "paths"
    digest = write_manifest(manifest, [path_row(0), row(1, messages=golden(1)[:3], tools=TOOLS, prompt="none")], [])
    recipe = Recipe(
        r=8,
        rslora=True,
        target_modules=("q_proj", "up_proj"),
        precision="fp32",
        schedule="constant",
        weight_decay=0.01,
        max_grad_norm=0,
        batch_size=1,
        group_by_length=False,
        epochs=9,
        tokens=100,
        max_length="p99",
        replay=0.9,
        keep_best=False,
    )
    job = planned(base=base, manifest_dir=manifest, manifest_digest=digest, recipe=recipe)
    status, result = finish(job, start(job))
    assert (status, result.error) == (0, None)
    config = json.loads((job.output / ADAPTER_DIR / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["target_modules"]) == (True, ["q_proj", "up_proj"])
    # Of passes of some 120 tokens: the budget ends the first one early.
    assert 0 < result.result["steps"] <= 2 and result.result["seen_tokens"] <= 200
    calls = [f'<call>{{"name": "add", "arguments": {{"to": {number}}}}}</call><|im_end|>' for number in range(2)]
    previews = json.loads((job.output / PREVIEWS_FILE).read_text())
    assert previews == [f"{calls[0]}Plainly 1.<|im_end|>", calls[1]]
    audit = result.result["mask_audit"]["train"]
    assert (audit["rows"], audit["examples"], audit["skipped"]) == (2, 2, {})
    assert result.result["dev_loss_before"] is None
    replay = result.result["replay"]
    assert replay["generated"] > 0 and replay["missing"] == 0 and replay["tokens"] >= replay["wanted_tokens"]

    # Resumed at its end, in the middle of a pass, it trains no step more.
    again = job.model_copy(update={"output": tmp_path / "again", "resume_from": job.output / CHECKPOINTS_DIR})
    status, resumed = finish(again, start(again))
    assert (status, resumed.error, resumed.result["resumed_at"]) == (0, None, result.result["steps"])
    for figure in ("adapter", "steps", "seen_tokens", "final_loss"):
        assert resumed.result[figure] == result.result[figure], figure


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
        ({"recipe": Recipe(method="qlora")}, 'engine "trl" does not train method "qlora"'),
        ({"recipe": Recipe(max_length=12)}, "it would be cut"),
        ({"recipe": RECIPE.model_copy(update={"learning_rate": 1e30})}, "the training diverged: at step"),
    ],
)
def test_what_no_retry_can_mend_is_told_as_permanent(planned: Planned, replaced: dict[str, Any], said: str) -> None:
    job = planned(**replaced)
    status, result = finish(job, start(job))
    assert (status, result.ok, result.permanent) == (EXIT_FAILED, False, True)
    assert said in (result.error or "")
