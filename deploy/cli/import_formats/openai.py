"""OpenAI's chat format, as its fine-tuning files and most traces have it: `{"messages": [...], "tools": [...]}`.

Also its older spelling with `functions`, `function_call` and the role `function`. `parallel_tool_calls` is not read.
Source: https://platform.openai.com/docs/guides/supervised-fine-tuning (formatting your data).
"""

from __future__ import annotations

import json
from typing import Any

from deploy.cli.import_formats.record import Conversation, RecordError, items, json_type, text

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
PARTS = ("image_url", "input_audio", "file", "refusal", "image", "audio", "video")
OLD_CALL = "call_{}"  # the older spelling has no ids: at most one call is open at a time


def matches(values: dict[str, Any]) -> bool:
    return "messages" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if "messages" not in values:
        raise RecordError("no messages")
    given = items(values["messages"], "messages")
    messages = [message(item, number) for number, item in enumerate(given)]
    _join_old_calls(given, messages)
    return Conversation(_trim_unweighted(given, messages), tools(values))


def message(item: dict[str, Any], number: int) -> dict[str, Any]:
    path = f"messages.{number}"
    role = ROLES.get(str(item.get("role")))
    if role is None:
        raise RecordError(f"{path}.role: not one of {', '.join(ROLES)}")
    made: dict[str, Any] = {"role": role}
    if (value := content(item.get("content"), f"{path}.content")) is not None:
        made["content"] = value
    elif role != "assistant":
        raise RecordError(f"{path}.content: missing")
    if item.get("name") is not None and item["role"] != "function":
        made["name"] = text(item["name"], f"{path}.name")
    if item.get("tool_call_id") is not None:
        made["tool_call_id"] = text(item["tool_call_id"], f"{path}.tool_call_id")
    if calls := items(item.get("tool_calls") or [], f"{path}.tool_calls"):
        made["tool_calls"] = [call(one, f"{path}.tool_calls.{at}") for at, one in enumerate(calls)]
    return made


def content(value: object, path: str) -> str | None:
    """Read text, or text in parts; parts are joined as vLLM joins them for a template that takes text."""
    if value is None or isinstance(value, str):
        return value
    return "\n".join(_part(part, f"{path}.{at}") for at, part in enumerate(items(value, path)))


def _part(part: dict[str, Any], path: str) -> str:
    if part.get("type") != "text":
        kind = part["type"] if part.get("type") in PARTS else "unknown"
        raise RecordError(f"{path}: a part of type {kind} is not supported, only text")
    return text(part.get("text"), f"{path}.text")


def call(item: dict[str, Any], path: str) -> dict[str, Any]:
    """Read a tool call; its arguments become text."""
    function = item.get("function")
    if not isinstance(function, dict):
        raise RecordError(f"{path}.function: {json_type(function)}, not an object")
    return {"id": item.get("id"), "type": "function", "function": call_function(function, f"{path}.function")}


def call_function(function: dict[str, Any], path: str) -> dict[str, Any]:
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"name": text(function.get("name"), f"{path}.name"), "arguments": arguments or "{}"}


def tools(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the tools that the assistant could call; the older `functions` are wrapped as tools."""
    if values.get("tools"):
        return items(values["tools"], "tools")
    return [{"type": "function", "function": one} for one in items(values.get("functions") or [], "functions")]


def _join_old_calls(given: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """Give the calls and results of the older spelling the ids that join them."""
    open_call = None
    for number, (item, made) in enumerate(zip(given, messages, strict=True)):
        if isinstance(old := item.get("function_call"), dict):
            open_call = OLD_CALL.format(number)
            function = call_function(old, f"messages.{number}.function_call")
            made["tool_calls"] = [{"id": open_call, "type": "function", "function": function}]
        elif item["role"] == "function" and open_call:
            made["tool_call_id"], open_call = open_call, None


def _trim_unweighted(given: list[dict[str, Any]], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without an end of weight 0, which its owner excludes from training. Raises RecordError."""
    end = len(given)
    while end and given[end - 1].get("weight") == 0:
        end -= 1
    if given and not end:
        raise RecordError("no assistant answer: every message has the weight 0")
    return messages[:end]
