"""Replay: the base's own words, trained where the base spoke and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.forge.trainer.render import IGNORED
from services.forge.trainer.replay import QUESTION, openings, replay
from shared.config.settings import PROJECT


class FakeEngine:
    """Says 7, 8, 9 after whatever it is given; a question becomes two tokens, plain text one a word."""

    @property
    def tokenizer(self) -> FakeEngine:
        return self

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> dict[str, list[int]]:
        assert options["add_generation_prompt"]
        return {"input_ids": [1, 2]}

    def encode(self, text: str) -> list[int]:
        return [5] * len(text.split())

    def generate(self, prompts: Sequence[list[int]], max_tokens: int) -> list[list[int]]:
        return [[7, 8, 9] for _ in prompts]


def test_only_what_the_base_said_is_trained() -> None:
    for example in replay(FakeEngine(), 50, 0.2):  # type: ignore[arg-type]
        assert [label for label in example.labels if label != IGNORED] == [7, 8, 9]
        assert len(example.labels) == len(example.input_ids)
        assert example.input_ids[-3:] == [7, 8, 9]


def test_the_share_is_of_the_rows_and_none_is_none() -> None:
    assert len(replay(FakeEngine(), 50, 0.2)) == 10  # type: ignore[arg-type]
    assert replay(FakeEngine(), 50, 0.0) == []  # type: ignore[arg-type]


def test_openings_and_questions_take_turns() -> None:
    asked = [line.startswith(QUESTION) for line in openings()[:9]]

    assert asked == [False, False, True] * 3


def test_no_opening_is_an_item_of_the_base_logic_suite() -> None:
    suite = "\n".join(path.read_text() for path in (PROJECT / "services/verifier/suites/base_logic").glob("*.jsonl"))

    assert not [line for line in openings() if line.removeprefix(QUESTION) in suite]
