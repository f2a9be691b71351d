"""Which engine a run takes: where a pilot pays, what it may take, and what its figures decide."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.forge.job import TrainerJob, kept_name
from services.forge.trainer import choice
from services.forge.trainer.choice import budget_s, fastest, training_s
from services.forge.trainer.pilot import typical
from services.forge.trainer.render import Example
from services.forge.trainer.rows import Split
from shared.config.recipe import Recipe
from shared.config.settings import PROJECT
from shared.contracts.forge import EngineChoice, Pilot
from shared.storage.base_model import Base
from shared.storage.base_shape import BaseShape

HAND_OVER = """
import sys
from services.forge.job import TrainerJob
from services.forge.trainer.choice import hand_over
from shared.contracts.forge import EngineChoice
hand_over(TrainerJob.model_validate_json(sys.argv[1]), EngineChoice.model_validate_json(sys.argv[2]))
"""
RESULT = '{"ok": true, "result": {"tokens_per_s": %s}}'


@pytest.mark.parametrize(
    ("training", "on_cpu", "budget"),
    [
        (19 * 60, True, 0),  # short on a CPU
        (21 * 60, True, 60),
        (10 * 60, False, 30),  # 5 %
        (3600, False, 60),
        (5 * 60, False, 0),  # 15 s measure nothing
    ],
)
def test_pilots_take_a_minute_and_a_twentieth_of_the_training_at_most(
    training: float, on_cpu: bool, budget: float
) -> None:
    assert budget_s(training, on_cpu) == budget


def test_a_run_is_estimated_from_the_machine_s_own_rate() -> None:
    # 135M parameters at 400 GFLOP/s: about 185 tokens/s at a quarter of the rate
    assert 185_000 / training_s(185_000, 135e6, 400e9) == pytest.approx(185, rel=0.01)


def test_the_fastest_pilot_wins_and_one_without_a_figure_never_does() -> None:
    slow = Pilot(engine="trl", tokens_per_s=10, seconds=1)
    fast = Pilot(engine="unsloth", tokens_per_s=11, seconds=1)
    failed = Pilot(engine="unsloth", seconds=1, fault="out of memory")
    assert fastest([slow, fast]) == "unsloth"
    assert fastest([slow, failed]) == "trl"
    assert fastest([failed]) == "trl"


def test_a_pilot_trains_rows_of_about_the_mean_length() -> None:
    rows = [Example(f"{length}", [0] * length, [0] * length, None) for length in (1, 9, 10, 11, 100, 5, 6)]
    assert {len(row.input_ids) for row in typical(rows, 2)} == {10, 11}  # of 20 in the mean
    assert len(typical(rows, 20)) == 20


def job(folder: Path, **others: Path) -> TrainerJob:
    return TrainerJob(
        ritual="r",
        attempt=1,
        fence=1,
        base=Base(name="base", path=folder, digest="sha256:b"),
        manifest_dir=folder,
        manifest_digest="sha256:m",
        recipe=Recipe(),
        output=folder,
        others={engine: str(python) for engine, python in others.items()},
        kept=folder / "kept",
    )


def interpreter(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_pilot_is_a_job_of_its_own_whose_figure_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "pilot-unsloth"
    python = interpreter(tmp_path / "python", f"mkdir {folder}; echo '{RESULT % 42.5}' > {folder}/result.json")
    found = choice._pilot(job(tmp_path), "unsloth", str(python), 30)
    assert (found.tokens_per_s, found.fault) == (42.5, "")
    asked = TrainerJob.model_validate_json((tmp_path / "pilot-unsloth.json").read_text())
    assert (asked.engine, asked.pilot, asked.output) == ("unsloth", True, folder)
    assert not folder.exists()


def test_a_pilot_that_takes_too_long_is_ended_without_a_figure(tmp_path: Path) -> None:
    began = time.monotonic()
    python = interpreter(tmp_path / "python", "exec sleep 60")
    found = choice._pilot(job(tmp_path), "unsloth", str(python), 0.3)
    assert found.tokens_per_s is None and "no figure within" in found.fault
    assert time.monotonic() - began < 30


def test_the_chosen_engine_s_interpreter_takes_the_job_over(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python", 'echo "$@"')
    asked = job(tmp_path, unsloth=python).model_copy(update={"start_before": 1.0, "resume_from": tmp_path / "earlier"})
    chosen = EngineChoice(engine="unsloth", why="the fastest of the pilots", key="device")
    command = [sys.executable, "-c", HAND_OVER, asked.model_dump_json(), chosen.model_dump_json()]
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert told == ["-m", "services.forge.trainer", str(tmp_path / "job-unsloth.json")]
    taken = TrainerJob.model_validate_json(Path(told[-1]).read_text())
    assert (taken.engine, taken.others, taken.choice, taken.start_before) == ("unsloth", {}, chosen, None)
    assert taken.resume_from == asked.resume_from


def test_a_kept_choice_holds_for_its_key_and_only_while_its_engine_is_here(tmp_path: Path) -> None:
    asked = job(tmp_path, unsloth=Path("/opt/unsloth/bin/python"))
    kept = EngineChoice(engine="unsloth", why="fast", key="device; base")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / kept_name(kept.key)).write_text(kept.model_dump_json())
    assert choice._kept(asked, "device; base") == kept
    assert choice._kept(asked, "device; other base") is None
    assert choice._kept(asked.model_copy(update={"others": {}}), "device; base") is None


@pytest.mark.parametrize(("attempt", "measured"), [(1, True), (2, False)])
def test_only_the_first_attempt_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: int, measured: bool
) -> None:
    """A pilot that needs more memory than the job may take ends the whole job."""
    rows = tmp_path / "train"
    rows.mkdir()
    line = {"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    (rows / "00000.jsonl").write_text(json.dumps(line | {"prompt": "none"}) + "\n")
    asked = job(tmp_path, unsloth=Path("/opt/unsloth/bin/python")).model_copy(update={"attempt": attempt})
    monkeypatch.setattr(choice, "_device", lambda: ("gpu", False))
    monkeypatch.setattr(choice, "_flops_per_s", lambda: 1e6)
    monkeypatch.setattr(choice, "training_s", lambda *_: 3600.0)
    monkeypatch.setattr(choice, "read_shape", lambda base: BaseShape("", 1, frozenset(), True, False))
    monkeypatch.setattr(choice, "_pilots", lambda job, budget: (Pilot(engine="unsloth", tokens_per_s=9, seconds=1),))
    chosen = choice.choose(asked, Split(rows, 1))
    assert (chosen.engine, bool(chosen.pilots)) == (("unsloth", True) if measured else ("trl", False))
    assert measured or chosen.why == "an earlier attempt was lost"


def test_the_key_tells_apart_what_changes_the_rate(tmp_path: Path) -> None:
    asked = job(tmp_path)
    key = choice._key(asked, "cpu", 90)
    assert key == choice._key(asked, "cpu", 100)
    wider = asked.model_copy(update={"recipe": Recipe(r=8)})
    others = {choice._key(asked, "gpu", 90), choice._key(asked, "cpu", 200), choice._key(wider, "cpu", 90)}
    assert len(others | {key}) == 4
