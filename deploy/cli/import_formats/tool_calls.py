"""Calls and their results: every result answers a call right before it, every call is answered, as engines demand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.karma import ChatMessage


def unpaired(messages: Sequence[ChatMessage]) -> str | None:
    """What is wrong with the calls of a conversation, without what they say; None when nothing is."""
    waiting: dict[str, int] = {}
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id is None or message.tool_call_id not in waiting:
                return f"messages.{number}: a tool result without its call"
            del waiting[message.tool_call_id]
            continue
        if waiting:
            return f"messages.{min(waiting.values())}: a tool call without its result"
        if message.tool_calls and message.role != "assistant":
            return f"messages.{number}: only the assistant calls tools"
        for at, call in enumerate(message.tool_calls):
            if fault := _fault(call):
                return f"messages.{number}.tool_calls.{at}: {fault}"
            if call["id"] in waiting:
                return f"messages.{number}.tool_calls.{at}: an id that another call has"
            waiting[call["id"]] = number
    return f"messages.{min(waiting.values())}: a tool call without its result" if waiting else None


def _fault(call: dict[str, Any]) -> str | None:
    function = call.get("function")
    if not isinstance(call.get("id"), str) or not call["id"]:
        return "no id"
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        return "no function name"
    if not isinstance(arguments := function.get("arguments"), str):
        return "arguments are not text: OpenAI's form has them as JSON in a text"
    return None if _is_object(arguments) else "arguments are not a JSON object"


def _is_object(text: str) -> bool:
    try:
        return text == "" or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
