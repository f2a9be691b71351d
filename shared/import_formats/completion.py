"""`{"prompt", "completion"}`, as TRL has it: text, or a list of messages each; also with the names of other tools."""

from __future__ import annotations

from typing import Any

from shared.import_formats import alpaca, openai
from shared.import_formats.record import Conversation, RecordError
from shared.import_formats.turns import Message, expect_only_text, system

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("query", "response"),
    ("question", "answer"),
    ("question", "response"),
)
FIELDS = frozenset({"system", "tools", "history"})
TRANSCRIPT = ("\n\nHuman:", "\n\nAssistant:")  # a whole conversation in one text, as HH-RLHF has it


def matches(values: dict[str, Any]) -> bool:
    return _pair(values) is not None


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if (pair := _pair(values)) is None:
        raise RecordError("no prompt with its completion")
    asked, answered = pair
    messages = [*alpaca.history(values.get("history")), *said(values[asked], asked, "user")]
    messages += said(values[answered], answered, "assistant")
    return Conversation(system(values.get("system"), messages), openai.tools(values), read=FIELDS | set(pair))


def _pair(values: dict[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in values and pair[1] in values), None)


def said(value: object, name: str, role: str) -> list[Message]:
    """Read text as the one message of a role, or a list of messages, or one. Raises RecordError."""
    if not isinstance(value, str):
        return openai.messages([value] if isinstance(value, dict) else value, name)
    if not value.strip():
        raise RecordError(f"{name}: empty")
    if any(mark in f"\n\n{value}" for mark in TRANSCRIPT):
        raise RecordError(f"{name}: a whole conversation in one text; give it as messages with roles")
    if role == "user":
        expect_only_text(value, name)
    return [{"role": role, "content": value}]
