"""`{"prompt", "completion"}`, as TRL has it: text, or a list of messages each; also with the names of other tools."""

from __future__ import annotations

from typing import Any

from deploy.cli.import_formats import openai
from deploy.cli.import_formats.record import Conversation, RecordError
from deploy.cli.import_formats.turns import Message, system

PAIRS = (("prompt", "completion"), ("prompt", "response"), ("query", "response"), ("question", "answer"))
FIELDS = frozenset(name for pair in PAIRS for name in pair) | {"system", "tools"}


def matches(values: dict[str, Any]) -> bool:
    return any(asked in values and answered in values for asked, answered in PAIRS)


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    for asked, answered in PAIRS:
        if asked in values and answered in values:
            messages = [*said(values[asked], asked, "user"), *said(values[answered], answered, "assistant")]
            return Conversation(system(values.get("system"), messages), openai.tools(values))
    raise RecordError("no prompt with its completion")


def said(value: object, name: str, role: str) -> list[Message]:
    """Read text as the one message of a role, or a list of messages, or one. Raises RecordError."""
    if not isinstance(value, str):
        return openai.messages([value] if isinstance(value, dict) else value, name)
    if not value.strip():
        raise RecordError(f"{name}: empty")
    return [{"role": role, "content": value}]
