"""The trainer's decisions that need no torch: where a run may go on, what it tells, when it stops."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.forge.job import IDENTITY_FILE, TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.stop import StopRequest
from shared.config.recipe import Recipe
from shared.jobs.result_writer import InputError, Interrupted
from shared.storage.base_model import Base

WEIGHTS = "adapter_model.safetensors"


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


def checkpoint(folder: Path, steps: int, run: TrainerJob | None) -> Path:
    made = folder / f"checkpoint-{steps}"
    (made / "state").mkdir(parents=True)
    for file in (WEIGHTS, "state/optimizer.pt"):
        (made / file).write_bytes(f"{file} after {steps} steps".encode())
    if run:
        checkpoints.seal(made, run)
    return made


def test_a_run_goes_on_from_the_newest_complete_checkpoint(tmp_path: Path) -> None:
    run = job(tmp_path)
    checkpoint(tmp_path, 9, run)
    wanted = checkpoint(tmp_path, 20, run)
    checkpoint(tmp_path, 30, None)
    (checkpoint(tmp_path, 40, run) / checkpoints.INCOMPLETE_FILE).touch()
    assert checkpoints.newest(tmp_path, run) == wanted


def test_without_a_complete_checkpoint_a_run_starts_afresh(tmp_path: Path) -> None:
    checkpoint(tmp_path, 30, None)
    assert checkpoints.newest(tmp_path, job(tmp_path)) is None


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], object]
) -> None:
    run = job(tmp_path)
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
        ({"recipe": Recipe(epochs=3)}, "recipe"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    checkpoint(tmp_path, 5, job(tmp_path))
    with pytest.raises(InputError, match=f"another {named}: start again"):
        checkpoints.newest(tmp_path, job(tmp_path, **changes))


def test_a_stop_request_is_honoured_at_the_next_safe_point() -> None:
    stop = StopRequest()
    stop.raise_if_made("early")
    stop.made = True
    with pytest.raises(Interrupted, match="asked to stop early"):
        stop.raise_if_made("early")
