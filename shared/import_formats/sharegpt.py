"""ShareGPT's format: `{"conversations": [{"from": "human", "value": ...}, ...]}`, with LLaMA-Factory's function calls.

Source of the roles: https://github.com/hiyouga/LLaMA-Factory, data/README.md.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from shared.import_formats import openai
from shared.import_formats.record import Conversation, RecordError, items
from shared.import_formats.turns import Message, append, calls_of, mark, role_of, system, text_of, tools_of

FIELDS = frozenset({"conversations", "conversation", "system", "tools"})


def matches(values: dict[str, Any]) -> bool:
    return "conversations" in values or "conversation" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if not matches(values):
        raise RecordError("no conversations")
    name = "conversations" if "conversations" in values else "conversation"
    return Conversation(system(values.get("system"), turns(values[name], name)), tools_of(values.get("tools")))


def turns(value: object, path: str) -> list[Message]:
    """Read a list of turns. Raises RecordError."""
    given = items(value, path)
    if any("role" in turn and "from" not in turn for turn in given):
        return openai.messages(given, path)
    open_calls: deque[str] = deque()
    made: list[Message] = []
    for number, turn in enumerate(given):
        append(mark(_message(turn, f"{path}.{number}", number, open_calls), turn, f"{path}.{number}"), made)
    return made


def _message(turn: dict[str, Any], path: str, number: int, open_calls: deque[str]) -> Message:
    role = role_of(turn, path)
    text_ = text_of(turn, path)
    if text_ is None:
        raise RecordError(f"{path}.value: missing")
    if role == "call":
        calls = calls_of(text_, f"{path}.value", number)
        open_calls.extend(call["id"] for call in calls)
        return {"role": "assistant", "tool_calls": calls}
    if role == "tool" and open_calls:
        return {"role": "tool", "content": text_, "tool_call_id": open_calls.popleft()}
    return {"role": role, "content": text_}
