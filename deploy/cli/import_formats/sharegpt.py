"""ShareGPT's format: `{"conversations": [{"from": "human", "value": ...}, ...]}`, with LLaMA-Factory's function calls.

Source of the roles: https://github.com/hiyouga/LLaMA-Factory, data/README.md.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from deploy.cli.import_formats.openai import call_function, content
from deploy.cli.import_formats.record import Conversation, RecordError, items, json_type, text

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "call",
    "observation": "tool",
    "tool": "tool",
    "function_response": "tool",
}
MEDIA = ("images", "image", "videos", "audios")


def matches(values: dict[str, Any]) -> bool:
    return "conversations" in values or "conversation" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if not matches(values):
        raise RecordError("no conversations")
    for media in MEDIA:
        if values.get(media):
            raise RecordError(f"{media} are not supported, only text")
    name = "conversations" if "conversations" in values else "conversation"
    messages: list[dict[str, Any]] = []
    if values.get("system"):
        messages.append({"role": "system", "content": text(values["system"], "system")})
    open_calls: deque[str] = deque()
    for number, turn in enumerate(items(values[name], name)):
        messages.append(_message(turn, f"{name}.{number}", number, open_calls))
    return Conversation(messages, _tools(values.get("tools")))


def _message(turn: dict[str, Any], path: str, number: int, open_calls: deque[str]) -> dict[str, Any]:
    role = ROLES.get(str(turn.get("from", turn.get("role"))))
    if role is None:
        raise RecordError(f"{path}.from: not one of {', '.join(ROLES)}")
    text_ = content(turn.get("value", turn.get("content")), f"{path}.value")
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
    return [
        {"id": f"call_{number}_{at}", "type": "function", "function": call_function(one, path)}
        for at, one in enumerate(calls)
    ]


def _tools(value: object) -> list[dict[str, Any]]:
    """Read tools from a list, or from JSON in a text; bare functions are wrapped as tools."""
    if not value:
        return []
    given = items(_json(value, "tools") if isinstance(value, str) else value, "tools")
    return [one if "function" in one else {"type": "function", "function": one} for one in given]


def _json(text_: str, path: str) -> object:
    try:
        value: object = json.loads(text_)
    except (ValueError, RecursionError):
        raise RecordError(f"{path}: not JSON") from None
    if not isinstance(value, dict | list):
        raise RecordError(f"{path}: {json_type(value)}, not an object")
    return value
