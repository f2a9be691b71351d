"""The trainer's decisions that need no torch: where a run may go on, what it tells, when it stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.forge.job import IDENTITY_FILE, TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.checkpoints import Run, digest_examples, identity
from services.forge.trainer.render import Example
from services.forge.trainer.run import MOST_DEV, measured
from services.forge.trainer.stop import StopRequest
from shared.config.recipe import Recipe
from shared.jobs.result_writer import InputError, Interrupted
from shared.storage.base_model import Base

WEIGHTS = "adapter_model.safetensors"
EXAMPLES = "sha256:e"


def job(tmp_path: Path, **changes: Any) -> TrainerJob:
    values: dict[str, Any] = {
        "ritual": "r",
        "attempt": 1,
        "fence": 1,
        "base": Base(name="base", path=tmp_path / "base", digest="sha256:b"),
        "manifest_dir": tmp_path / "manifest",
        "manifest_digest": "sha256:m",
        "recipe": Recipe(),
        "output": tmp_path / "output",
    }
    return TrainerJob(**(values | changes))


def log(**dev_losses: float) -> list[dict[str, float]]:
    """The trainer's log: `at_5=1.5` is a dev loss."""
    return [{"eval_loss": loss, "step": int(name.removeprefix("at_"))} for name, loss in dev_losses.items()]


def checkpoint(folder: Path, steps: int, run: Run | None, **dev_losses: float) -> Path:
    made = folder / f"checkpoint-{steps}"
    (made / "state").mkdir(parents=True)
    for file in (WEIGHTS, "state/optimizer.pt"):
        (made / file).write_bytes(f"{file} after {steps} steps".encode())
    (made / checkpoints.STATE_FILE).write_text(json.dumps({"log_history": log(**dev_losses), "epoch": 1.0}))
    if run:
        checkpoints.seal(made, run)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return identity(job(tmp_path), EXAMPLES)


def test_a_run_goes_on_from_the_newest_complete_checkpoint(tmp_path: Path, run: Run) -> None:
    checkpoint(tmp_path, 9, run)
    wanted = checkpoint(tmp_path, 20, run)
    checkpoint(tmp_path, 30, None)
    assert checkpoints.newest(tmp_path, run) == wanted


def test_without_a_complete_checkpoint_a_run_starts_afresh(tmp_path: Path, run: Run) -> None:
    checkpoint(tmp_path, 30, None)
    assert checkpoints.newest(tmp_path, run) is None
    assert checkpoints.bring(tmp_path, tmp_path / "new", run) is None


def test_the_next_attempt_gets_the_checkpoint_and_the_best_one_before_it(tmp_path: Path, run: Run) -> None:
    for steps in (10, 20):
        checkpoint(tmp_path / "old", steps, run, at_0=0.5)
    checkpoint(tmp_path / "old", 30, run, at_0=0.5, at_10=2.0, at_20=3.0)

    brought = checkpoints.bring(tmp_path / "old", tmp_path / "new", run)

    assert brought == tmp_path / "new" / "checkpoint-30"
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == ["checkpoint-10", "checkpoint-30"]
    assert checkpoints.newest(tmp_path / "new", run) == brought


def test_an_attempt_that_ends_while_it_copies_has_no_whole_checkpoint(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "old", 10, run)
    checkpoint(tmp_path / "old", 20, run, at_10=2.0)

    def copy(source: Any, target: Any, *options: Any) -> None:
        if source.name == "checkpoint-20":
            raise KeyboardInterrupt
        copytree(source, target, *options)

    copytree = shutil.copytree
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", copy)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.bring(tmp_path / "old", tmp_path / "new", run)
    assert not list((tmp_path / "new").glob("checkpoint-*"))
    assert checkpoints.bring(tmp_path / "old", tmp_path / "new", run) == tmp_path / "new" / "checkpoint-20"


def test_a_checkpoint_whose_best_one_is_damaged_is_not_resumed_from(tmp_path: Path, run: Run) -> None:
    older = checkpoint(tmp_path, 10, run)
    checkpoint(tmp_path, 20, run, at_10=2.0)
    checkpoint(tmp_path, 30, run, at_10=2.0, at_20=1.0)
    flip(tmp_path / "checkpoint-20" / WEIGHTS)
    assert checkpoints.newest(tmp_path, run) == older


@pytest.mark.parametrize("newer", [{"at_20": 2.0, "at_25": 0.5}, {"at_20": 0.5, "at_25": 0.4}])
def test_the_two_newest_checkpoints_are_kept_each_with_the_best_that_it_knows(
    tmp_path: Path, run: Run, newer: dict[str, float]
) -> None:
    dev_losses = {"at_5": 3.0, "at_10": 1.0, "at_15": 2.0} | newer
    for steps in (5, 10, 15, 20, 25):
        checkpoint(tmp_path, steps, run, **{at: loss for at, loss in dev_losses.items() if int(at[3:]) < steps})
    checkpoints.rotate(tmp_path, log(**dev_losses))
    assert sorted(map(checkpoints.steps, tmp_path.iterdir())) == [10, 20, 25]

    shutil.rmtree(tmp_path / "checkpoint-25")
    assert checkpoints.newest(tmp_path, run) == tmp_path / "checkpoint-20"


def test_the_dev_loss_is_measured_on_so_many_examples_the_same_ones_in_every_run() -> None:
    examples = [Example(f"row-{number}", [number], [number], None) for number in range(MOST_DEV + 50)]
    chosen = measured(examples)
    assert len(chosen) == MOST_DEV
    assert measured(examples[::-1]) == chosen


def test_how_a_step_is_split_is_no_part_of_a_run(tmp_path: Path, run: Run) -> None:
    assert identity(job(tmp_path, recipe=Recipe(micro_batch=2)), EXAMPLES) == run


def test_the_digest_of_examples_is_over_tokens_and_labels_in_order() -> None:
    one, two = Example("a", [1, 2], [-100, 2], None), Example("b", [1, 2, 3], [-100, -100, 3], None)
    digests = {digest_examples(them) for them in ([one, two], [two, one], [one], [Example("a", [1, 2], [1, 2], None)])}
    assert len(digests) == 4


def test_where_only_the_examples_differ_a_run_starts_afresh_and_reports_it(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path, 5, run)
    assert checkpoints.newest(tmp_path, run | {"examples": "sha256:other"}) is None
    assert "trained on other examples" in capsys.readouterr().err


def flip(file: Path) -> None:
    """Change the lowest bit of the middle byte."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(file: Path) -> None:
        file.unlink()
        make(file)

    return replace


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a truncated file": (WEIGHTS, lambda file: os.truncate(file, 3)),
    "a flipped bit": (WEIGHTS, flip),
    "a flipped bit below": ("state/optimizer.pt", flip),
    "a missing file": (WEIGHTS, Path.unlink),
    "a further file": ("other.bin", Path.touch),
    "a pipe": (WEIGHTS, replace_by(os.mkfifo)),
    "a link": (WEIGHTS, replace_by(lambda file: file.symlink_to("/dev/zero"))),
    "a seal with a flipped bit": (IDENTITY_FILE, flip),
    "a truncated seal": (IDENTITY_FILE, lambda file: os.truncate(file, 9)),
    "an empty seal": (IDENTITY_FILE, lambda file: file.write_text("{}")),
    "a seal of another run": (
        IDENTITY_FILE,
        lambda file: file.write_text(file.read_text().replace("sha256:m", "sha256:n")),
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_next_older_one_is_taken(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], object]
) -> None:
    older, damaged = (checkpoint(tmp_path, number, run) for number in (9, 20))
    damage(damaged / name)
    assert checkpoints.newest(tmp_path, run) == older
    assert f"{damaged} is damaged" in capsys.readouterr().err

    damage(older / name)
    assert checkpoints.newest(tmp_path, run) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"manifest_digest": "sha256:other"}, "manifest"),
        ({"seed": 7}, "seed"),
        ({"engine": "unsloth"}, "engine"),
        ({"recipe": Recipe(epochs=3)}, "recipe"),
        ({"base": Base(name="base", path=Path("base"), digest="sha256:c")}, "base"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    checkpoint(tmp_path, 5, identity(job(tmp_path), EXAMPLES))
    with pytest.raises(InputError, match=f"another {named}: start again"):
        checkpoints.newest(tmp_path, identity(job(tmp_path, **changes), EXAMPLES))


def test_a_run_stays_with_the_engine_of_its_newest_whole_checkpoint(tmp_path: Path, run: Run) -> None:
    assert checkpoints.engine_of(tmp_path) is None
    checkpoint(tmp_path, 9, run)
    checkpoint(tmp_path, 20, run | {"engine": "unsloth"})
    checkpoint(tmp_path, 30, None)
    assert checkpoints.engine_of(tmp_path) == "unsloth"
    (checkpoint(tmp_path, 40, run) / WEIGHTS).write_text("damaged")
    assert checkpoints.engine_of(tmp_path) == "unsloth"


def test_a_stop_request_is_honoured_at_the_next_safe_point() -> None:
    stop = StopRequest()
    stop.raise_if_made("early")
    stop.made = True
    with pytest.raises(Interrupted, match="asked to stop early"):
        stop.raise_if_made("early")


def test_where_nothing_is_lost_a_stop_ends_the_work_at_once() -> None:
    stop = StopRequest()
    stop.listen()
    done: list[str] = []

    def work() -> None:
        with stop.at_once("before the first step"):
            signal.raise_signal(signal.SIGTERM)
            done.append("more")

    try:
        with pytest.raises(Interrupted, match="before the first step"):
            work()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert done == []


def test_a_stop_that_a_library_swallowed_ends_the_work_after_it() -> None:
    stop = StopRequest()
    with pytest.raises(Interrupted, match="early"), stop.at_once("early"):
        stop.made = True  # and no exception came through
