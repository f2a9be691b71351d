"""The base's answers on disk: kept by what they depend on, and hostile until checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.forge.replay import answers
from services.forge.replay.answers import (
    DRAWS,
    LONGEST,
    Answer,
    answers_key,
    append_answers,
    make_answer,
    read_answers,
    unanswered,
)
from services.forge.replay.prompts import list_prompts
from shared.storage.untrusted import OutputError

QUESTION = next(number for number, prompt in enumerate(list_prompts()) if not prompt.is_text)
TEXT = next(number for number, prompt in enumerate(list_prompts()) if prompt.is_text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def an_answer(prompt: int, draw: int = 0, text: str | None = "Yes.") -> Answer:
    return Answer(prompt=prompt, draw=draw, text=text)


def test_what_was_added_is_read_and_nothing_where_there_is_no_file(file: Path) -> None:
    assert read_answers(file) == {}

    append_answers(file, [an_answer(3), an_answer(5, text=None)])
    append_answers(file, [an_answer(3, draw=1, text="Größe\u2028\nzwei")])

    assert read_answers(file) == {
        (3, 0): an_answer(3),
        (5, 0): an_answer(5, text=None),
        (3, 1): an_answer(3, draw=1, text="Größe\u2028\nzwei"),
    }


def test_a_line_that_a_crash_has_cut_costs_that_answer_alone(file: Path) -> None:
    append_answers(file, [an_answer(1), an_answer(2)])
    file.write_bytes(file.read_bytes()[:-9])

    append_answers(file, [an_answer(4)])

    assert set(read_answers(file)) == {(1, 0), (4, 0)}


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"\xff\xfe",
        b'{"prompt": 1, "draw": 0, "text": 7}',
        b'{"prompt": -1, "draw": 0, "text": "x"}',
        b'{"prompt": 999999, "draw": 0, "text": "x"}',
        b'{"prompt": 1, "draw": %d, "text": "x"}' % DRAWS,
        b'{"prompt": 1, "draw": 0, "text": "%b"}' % (b"x" * (LONGEST + 1)),
        b'{"prompt": 1, "draw": 0, "text": "x", "also": 1}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_answer_is_left_out(file: Path, line: bytes) -> None:
    file.write_bytes(line + b"\n")
    append_answers(file, [an_answer(2)])

    assert set(read_answers(file)) == {(2, 0)}


def test_a_file_that_is_a_link_or_too_large_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = file.with_name("elsewhere")
    append_answers(real, [an_answer(1)])
    file.symlink_to(real)
    with pytest.raises(OutputError, match="not a regular file"):
        read_answers(file)
    with pytest.raises(OSError):
        append_answers(file, [an_answer(1)])

    monkeypatch.setattr(answers, "LARGEST", 10)
    with pytest.raises(OutputError, match="is over"):
        read_answers(real)


def test_an_answer_that_is_empty_or_cut_off_is_kept_as_unusable(file: Path) -> None:
    assert make_answer((QUESTION, 0), "Because of the light.", complete=True).text == "Because of the light."
    assert make_answer((QUESTION, 0), "Because of the", complete=False).text is None
    assert make_answer((QUESTION, 0), " \n", complete=True).text is None
    assert make_answer((QUESTION, 0), "x" * (LONGEST + 1), complete=True).text is None


def test_a_plain_text_has_no_end_and_is_used_as_far_as_it_goes() -> None:
    assert make_answer((TEXT, 0), " was late because", complete=False).text == " was late because"


def test_another_base_another_sampling_and_other_prompts_have_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [answers_key("sha256:a"), answers_key("sha256:b")]
    with monkeypatch.context() as other:
        other.setattr(answers, "SAMPLING", answers.Sampling(temperature=0.1))
        keys.append(answers_key("sha256:a"))
    with monkeypatch.context() as other:
        other.setattr(answers, "prompts_digest", lambda: "sha256:other")
        keys.append(answers_key("sha256:a"))

    assert len(set(keys)) == 4 and answers_key("sha256:a") == keys[0]


def test_every_prompt_is_asked_once_before_any_is_asked_again() -> None:
    known = {(0, 0): an_answer(0), (1, 1): an_answer(1, draw=1)}
    places = [place for place, _ in unanswered(known)]

    count = len(list_prompts())
    assert places[: count - 1] == [(number, 0) for number in range(1, count)]
    assert places[count - 1 : count + 1] == [(0, 1), (2, 1)]
    assert len(places) == count * DRAWS - 2
