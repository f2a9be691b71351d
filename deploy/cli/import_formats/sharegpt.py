"""ShareGPT's format: `{"conversations": [{"from": "human", "value": ...}, ...]}`, with LLaMA-Factory's function calls.

Source of the roles: https://github.com/hiyouga/LLaMA-Factory, data/README.md.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from deploy.cli.import_formats.record import Conversation, RecordError, items, json_type
from deploy.cli.import_formats.turns import Message, call, mark, role_of, system, text_of, tool

FIELDS = frozenset({"conversations", "conversation", "system", "tools"})


def matches(values: dict[str, Any]) -> bool:
    return "conversations" in values or "conversation" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if not matches(values):
        raise RecordError("no conversations")
    name = "conversations" if "conversations" in values else "conversation"
    return Conversation(system(values.get("system"), turns(values[name], name)), _tools(values.get("tools")))


def turns(value: object, path: str) -> list[Message]:
    """Read a list of turns. Raises RecordError."""
    open_calls: deque[str] = deque()
    return [
        mark(_message(turn, f"{path}.{number}", number, open_calls), turn, f"{path}.{number}")
        for number, turn in enumerate(items(value, path))
    ]


def _message(turn: dict[str, Any], path: str, number: int, open_calls: deque[str]) -> Message:
    role = role_of(turn, path)
    text_ = text_of(turn, path)
    if text_ is None:
        raise RecordError(f"{path}.value: missing")
    if role == "call":
        calls = _calls(text_, f"{path}.value", number)
        open_calls.extend(call["id"] for call in calls)
        return {"role": "assistant", "tool_calls": calls}
    if role == "tool" and open_calls:
        return {"role": "tool", "content": text_, "tool_call_id": open_calls.popleft()}
    return {"role": role, "content": text_}


def _calls(text_: str, path: str, number: int) -> list[dict[str, Any]]:
    """Read one call or several, as JSON in the text of a turn; this format has no ids, results follow in order."""
    value = _json(text_, path)
    calls = items(value if isinstance(value, list) else [value], path)
    return [call(f"call_{number}_{at}", one, path) for at, one in enumerate(calls)]


def _tools(value: object) -> list[dict[str, Any]]:
    """Read tools from a list, or from JSON in a text; bare functions are wrapped as tools."""
    if not value:
        return []
    return [tool(one) for one in items(_json(value, "tools") if isinstance(value, str) else value, "tools")]


def _json(text_: str, path: str) -> object:
    try:
        value: object = json.loads(text_)
    except (ValueError, RecursionError):
        raise RecordError(f"{path}: not JSON") from None
    if not isinstance(value, dict | list):
        raise RecordError(f"{path}: {json_type(value)}, not an object")
    return value
