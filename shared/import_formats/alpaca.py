"""Alpaca's format: `{"instruction", "input", "output"}`, with the `system` and `history` that LLaMA-Factory adds."""

from __future__ import annotations

from typing import Any

from shared.import_formats.record import Conversation, RecordError, json_type, text
from shared.import_formats.turns import Message, expect_only_text, system

FIELDS = frozenset({"instruction", "input", "output", "system", "history"})


def matches(values: dict[str, Any]) -> bool:
    return "instruction" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    for name in ("instruction", "output"):
        if name not in values:
            raise RecordError(f"no {name}")
    messages = asked(values)
    answered = text(values["output"], "output")
    if not answered.strip():
        raise RecordError("no assistant answer: output is empty")
    return Conversation([*messages, {"role": "assistant", "content": answered}])


def asked(values: dict[str, Any]) -> list[Message]:
    """The messages that the output answers. Raises RecordError."""
    messages: list[Message] = []
    messages += history(values.get("history"))
    words = text(values["instruction"], "instruction")
    if values.get("input"):
        words = f"{words}\n\n{text(values['input'], 'input')}"
    if not words.strip():
        raise RecordError("instruction and input are empty")
    expect_only_text(words, "instruction")
    return system(values.get("system"), [*messages, {"role": "user", "content": words}])


def history(value: object) -> list[Message]:
    """Read earlier turns, each a question and its answer. Raises RecordError."""
    if not value:
        return []
    if not isinstance(value, list):
        raise RecordError(f"history: {json_type(value)}, not an array")
    for number, turn in enumerate(value):
        if not isinstance(turn, list) or len(turn) != 2:
            raise RecordError(f"history.{number}: not a question and an answer")
    messages: list[Message] = []
    for number, (asked_, answered) in enumerate(value):
        messages.append({"role": "user", "content": text(asked_, f"history.{number}.0")})
        expect_only_text(messages[-1]["content"], f"history.{number}.0")
        messages.append({"role": "assistant", "content": text(answered, f"history.{number}.1")})
    return messages
