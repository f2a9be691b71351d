"""ShareGPT's form: `{"conversations": [{"from": "human", "value": ...}, ...]}`, with LLaMA-Factory's function calls.

Source of the roles: https://github.com/hiyouga/LLaMA-Factory, data/README.md.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from deploy.cli.import_formats.openai import called, content
from deploy.cli.import_formats.record import Conversation, Wrong, items, kind_of, text

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
    """Raises Wrong."""
    if not matches(values):
        raise Wrong("no conversations")
    for media in MEDIA:
        if values.get(media):
            raise Wrong(f"{media} are not supported, only text")
    name = "conversations" if "conversations" in values else "conversation"
    messages: list[dict[str, Any]] = []
    if values.get("system"):
        messages.append({"role": "system", "content": text(values["system"], "system")})
    open_calls: deque[str] = deque()
    for number, turn in enumerate(items(values[name], name)):
        messages.append(_message(turn, f"{name}.{number}", number, open_calls))
    return Conversation(messages, _tools(values.get("tools")))


def _message(turn: dict[str, Any], place: str, number: int, open_calls: deque[str]) -> dict[str, Any]:
    role = ROLES.get(str(turn.get("from", turn.get("role"))))
    if role is None:
        raise Wrong(f"{place}.from: not one of {', '.join(ROLES)}")
    said = content(turn.get("value", turn.get("content")), f"{place}.value")
    if said is None:
        raise Wrong(f"{place}.value: missing")
    if role == "call":
        calls = _calls(said, f"{place}.value", number)
        open_calls.extend(call["id"] for call in calls)
        return {"role": "assistant", "tool_calls": calls}
    if role == "tool" and open_calls:
        return {"role": "tool", "content": said, "tool_call_id": open_calls.popleft()}
    return {"role": role, "content": said}


def _calls(said: str, place: str, number: int) -> list[dict[str, Any]]:
    """One call or several, as JSON in the words of a turn; this form has no ids, results follow in order."""
    value = _json(said, place)
    calls = items(value if isinstance(value, list) else [value], place)
    return [
        {"id": f"call_{number}_{at}", "type": "function", "function": called(one, place)}
        for at, one in enumerate(calls)
    ]


def _tools(value: object) -> list[dict[str, Any]]:
    """Tools as a list, or as JSON in a text; bare functions are wrapped as tools."""
    if not value:
        return []
    given = items(_json(value, "tools") if isinstance(value, str) else value, "tools")
    return [one if "function" in one else {"type": "function", "function": one} for one in given]


def _json(said: str, place: str) -> object:
    try:
        value: object = json.loads(said)
    except (ValueError, RecursionError):
        raise Wrong(f"{place}: not JSON") from None
    if not isinstance(value, dict | list):
        raise Wrong(f"{place}: {kind_of(value)}, not an object")
    return value
