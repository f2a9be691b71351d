"""The trainer's decisions that need no torch: what is trained, what is refused, where a run may go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.forge.job import TrainerJob
from services.forge.trainer import checkpoints
from services.forge.trainer.envelope import Envelope
from services.forge.trainer.failure import BadInput, Interrupted
from services.forge.trainer.mask import audit, preview
from services.forge.trainer.render import IGNORED, Example, keeps_prompt, render
from services.forge.trainer.rows import Row, read_rows
from services.forge.trainer.stop import StopRequest
from shared.base import Base
from shared.contracts.job import JobResult, Progress
from shared.digests import digest_tree
from shared.recipe import Recipe

END = ord("$")
ROW = Row(
    id="one",
    messages=(
        {"role": "system", "content": "RULES"},
        {"role": "user", "content": "ask"},
        {"role": "assistant", "content": "answer"},
    ),
)


class Letters:
    """A tokenizer whose tokens are letters: `role>content$` and a line end for every message, as ChatML does."""

    def __init__(self, closing: str = "$\n", drops_history: bool = False) -> None:
        self.closing, self.drops_history = closing, drops_history

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> dict[str, list[int]]:
        opens = options["add_generation_prompt"]
        shown = conversation[-1:] if self.drops_history and not opens else conversation
        text = "".join(f"{m['role']}>{m['content']}{self.closing}" for m in shown)
        return {"input_ids": [ord(letter) for letter in text + ("assistant>" if opens else "")]}

    def decode(self, token_ids: list[int]) -> str:
        return "".join(map(chr, token_ids))


def example(trained: int, length: int = 20, name: str = "x") -> Example:
    return Example(name, [1] * length, [IGNORED] * (length - trained) + [1] * trained, False)


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


def test_only_the_answer_and_its_end_of_turn_are_trained() -> None:
    rendered = render(Letters(), ROW, keep_prompt=True, end_of_turn={END})
    assert preview(Letters(), rendered) == "answer$"
    assert Letters().decode(rendered.input_ids) == "system>RULES$\nuser>ask$\nassistant>answer$"
    assert all(label in (IGNORED, token) for label, token in zip(rendered.labels, rendered.input_ids, strict=True))


def test_a_row_without_its_system_prompt_is_rendered_as_a_client_would_send_it() -> None:
    rendered = render(Letters(), ROW, keep_prompt=False, end_of_turn={END})
    assert Letters().decode(rendered.input_ids) == "user>ask$\nassistant>answer$"


def test_a_template_that_serves_another_text_than_it_trains_is_refused() -> None:
    with pytest.raises(BadInput, match="apart at token 0"):
        render(Letters(drops_history=True), ROW, keep_prompt=True, end_of_turn={END})


def test_an_answer_that_would_never_stop_is_refused() -> None:
    with pytest.raises(BadInput, match="never stop"):
        render(Letters(closing="\n"), ROW, keep_prompt=True, end_of_turn={END})


@given(st.text(min_size=1, max_size=30), st.integers(0, 2**31 - 1))
def test_whether_a_prompt_is_kept_depends_on_the_id_alone(row_id: str, seed: int) -> None:
    assert keeps_prompt(row_id, 0.2, seed) == keeps_prompt(row_id, 0.2, seed)
    assert not keeps_prompt(row_id, 0.0, seed)
    assert keeps_prompt(row_id, 1.0, seed)


def test_about_the_asked_share_of_prompts_is_kept() -> None:
    kept = sum(keeps_prompt(f"row-{number}", 0.2, 0) for number in range(5000))
    assert 0.18 < kept / 5000 < 0.22


def test_an_empty_mask_is_refused_and_counted() -> None:
    good = [example(5, name=str(number)) for number in range(20)]
    fit, numbers = audit(Letters(), [*good, example(1, name="empty")], max_length=100)
    assert fit == good
    assert numbers.refused == {"empty": "the loss mask is empty"}
    assert (numbers.examples, numbers.trained_tokens, numbers.least_trained) == (20, 100, 5)


def test_a_run_of_empty_masks_is_refused() -> None:
    with pytest.raises(BadInput, match="1 of 2 rows"):
        audit(Letters(), [example(5), example(0, name="empty")], max_length=100)


def test_a_row_that_would_be_cut_is_refused() -> None:
    with pytest.raises(BadInput, match="21 tokens, more than 20: it would be cut"):
        audit(Letters(), [example(5, length=21)], max_length=20)


def write_manifest(folder: Path, *train: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train))
    (folder / "dev.jsonl").write_text("")
    return digest_tree(folder)


def test_rows_are_read_from_the_manifest_that_the_job_names(tmp_path: Path) -> None:
    digest = write_manifest(tmp_path / "m", {"session": "s", "checks": [], **ROW.model_dump()})
    assert read_rows(tmp_path / "m", digest) == ([ROW], [])


def test_a_changed_manifest_is_refused_for_good(tmp_path: Path) -> None:
    digest = write_manifest(tmp_path / "m", ROW.model_dump())
    (tmp_path / "m" / "train.jsonl").write_text("{}")
    with pytest.raises(BadInput, match="harvest again") as refusal:
        read_rows(tmp_path / "m", digest)
    assert refusal.value.permanent


def test_a_row_without_an_answer_is_refused_by_line(tmp_path: Path) -> None:
    digest = write_manifest(tmp_path / "m", {"id": "a", "messages": list(ROW.messages[:2])})
    with pytest.raises(BadInput, match=r"train.jsonl line 1: row a does not end"):
        read_rows(tmp_path / "m", digest)


def test_a_manifest_without_rows_is_refused(tmp_path: Path) -> None:
    digest = write_manifest(tmp_path / "m")
    with pytest.raises(BadInput, match="nothing to train on"):
        read_rows(tmp_path / "m", digest)


def checkpoint(folder: Path, steps: int, run: TrainerJob | None) -> Path:
    made = folder / f"checkpoint-{steps}"
    made.mkdir(parents=True)
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
    with pytest.raises(BadInput, match=f"another {named}: start afresh"):
        checkpoints.newest(tmp_path, job(tmp_path, **changes))


def test_the_result_appears_whole_and_last(tmp_path: Path) -> None:
    envelope = Envelope(tmp_path)
    envelope.progress(Progress(phase="train", done=1, total=2, unit="steps", loss=0.5))
    with envelope.span("train"):
        assert not (tmp_path / "result.json").exists()
    envelope.close(JobResult(ok=True))
    result = JobResult.model_validate_json((tmp_path / "result.json").read_text())
    assert [span.name for span in result.spans] == ["train"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["progress.jsonl", "result.json"]


def test_a_stop_request_is_honoured_at_the_next_safe_point() -> None:
    stop = StopRequest()
    stop.honour("early")
    stop.made = True
    with pytest.raises(Interrupted, match="asked to stop early"):
        stop.honour("early")
