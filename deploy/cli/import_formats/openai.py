"""OpenAI's chat form, as its fine-tuning files and most traces have it: `{"messages": [...], "tools": [...]}`.

Also its older spelling with `functions`, `function_call` and the role `function`. `parallel_tool_calls` is not read.
Source: https://platform.openai.com/docs/guides/supervised-fine-tuning (formatting your data).
"""

from __future__ import annotations

import json
from typing import Any

from deploy.cli.import_formats.record import Conversation, Wrong, items, kind_of, text

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
    """Raises Wrong."""
    if "messages" not in values:
        raise Wrong("no messages")
    given = items(values["messages"], "messages")
    messages = [message(item, number) for number, item in enumerate(given)]
    _join_old_calls(given, messages)
    return Conversation(_up_to_trained(given, messages), tools(values))


def message(item: dict[str, Any], number: int) -> dict[str, Any]:
    place = f"messages.{number}"
    role = ROLES.get(str(item.get("role")))
    if role is None:
        raise Wrong(f"{place}.role: not one of {', '.join(ROLES)}")
    made: dict[str, Any] = {"role": role}
    if (said := content(item.get("content"), f"{place}.content")) is not None:
        made["content"] = said
    elif role != "assistant":
        raise Wrong(f"{place}.content: missing")
    if item.get("name") is not None and item["role"] != "function":
        made["name"] = text(item["name"], f"{place}.name")
    if item.get("tool_call_id") is not None:
        made["tool_call_id"] = text(item["tool_call_id"], f"{place}.tool_call_id")
    if calls := items(item.get("tool_calls") or [], f"{place}.tool_calls"):
        made["tool_calls"] = [call(one, f"{place}.tool_calls.{at}") for at, one in enumerate(calls)]
    return made


def content(value: object, place: str) -> str | None:
    """Text, or text in parts; parts are joined as vLLM joins them for a template that takes text."""
    if value is None or isinstance(value, str):
        return value
    return "\n".join(_part(part, f"{place}.{at}") for at, part in enumerate(items(value, place)))


def _part(part: dict[str, Any], place: str) -> str:
    if part.get("type") != "text":
        kind = part["type"] if part.get("type") in PARTS else "unknown"
        raise Wrong(f"{place}: a part of type {kind} is not supported, only text")
    return text(part.get("text"), f"{place}.text")


def call(item: dict[str, Any], place: str) -> dict[str, Any]:
    """A call with its arguments as text, however they were given."""
    function = item.get("function")
    if not isinstance(function, dict):
        raise Wrong(f"{place}.function: {kind_of(function)}, not an object")
    return {"id": item.get("id"), "type": "function", "function": called(function, f"{place}.function")}


def called(function: dict[str, Any], place: str) -> dict[str, Any]:
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"name": text(function.get("name"), f"{place}.name"), "arguments": arguments or "{}"}


def tools(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The tools the assistant could call; the older `functions` are wrapped as tools."""
    if values.get("tools"):
        return items(values["tools"], "tools")
    return [{"type": "function", "function": one} for one in items(values.get("functions") or [], "functions")]


def _join_old_calls(given: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """Give the calls and results of the older spelling the ids that join them."""
    open_call = None
    for number, (item, made) in enumerate(zip(given, messages, strict=True)):
        if isinstance(old := item.get("function_call"), dict):
            open_call = OLD_CALL.format(number)
            function = called(old, f"messages.{number}.function_call")
            made["tool_calls"] = [{"id": open_call, "type": "function", "function": function}]
        elif item["role"] == "function" and open_call:
            made["tool_call_id"], open_call = open_call, None


def _up_to_trained(given: list[dict[str, Any]], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the end that its owner gave the weight 0: it is not to be learned."""
    end = len(given)
    while end and given[end - 1].get("weight") == 0:
        end -= 1
    if given and not end:
        raise Wrong("no assistant answer: every message has the weight 0")
    return messages[:end]
