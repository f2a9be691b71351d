"""Gemini's format: `{"systemInstruction", "contents": [{"role", "parts": [...]}], "tools"}`.

Source: https://ai.google.dev/api/generate-content. Calls and results are joined by their names, in their order.
A result that holds an `error` and no `output` failed: its call is context and not trained.
"""

from __future__ import annotations

import json
from typing import Any

from shared.import_formats import openai
from shared.import_formats.record import Conversation, RecordError, items, json_type, text
from shared.import_formats.turns import Message, call, glue_of, mark, system, tool

FIELDS = frozenset({"contents", "systemInstruction", "system_instruction", "tools"})
PART = frozenset({"text", "thought", "thoughtSignature", "thought_signature"})
ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}


def matches(values: dict[str, Any]) -> bool:
    return "contents" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if not matches(values):
        raise RecordError("no contents")
    messages: list[Message] = []
    waiting: list[tuple[str, str]] = []
    for number, item in enumerate(items(values["contents"], "contents")):
        for message in _messages(item, f"contents.{number}", waiting):
            if message.pop(openai.ERROR, False):
                openai.exclude_caller(messages, message["tool_call_id"])
            messages.append(message)
    given = values.get("systemInstruction", values.get("system_instruction"))
    prompt = _text(_parts(given, "systemInstruction"), "systemInstruction") if isinstance(given, dict) else given
    return Conversation(system(prompt, messages), _tools(values.get("tools")))


def _messages(item: dict[str, Any], path: str, waiting: list[tuple[str, str]]) -> list[Message]:
    role = ROLES.get(str(item.get("role", "user")))
    if role is None:
        raise RecordError(f"{path}.role: not one of {', '.join(ROLES)}")
    parts = _parts(item, path)
    results = [_result(part, path, waiting) for part in parts if _of(part, "functionResponse")]
    made = [called for part in parts if (called := _of(part, "functionCall"))]
    calls = [call(one.get("id") or f"{path}.{at}", one, f"{path}.functionCall") for at, one in enumerate(made)]
    waiting += [(one["function"]["name"], one["id"]) for one in calls]
    said = [part for part in parts if not _of(part, "functionResponse") and not _of(part, "functionCall")]
    words = _text(said, path, glue_of(role))
    if not words and not calls and results:
        return results
    message: Message = {"role": role, "content": words} | ({"tool_calls": calls} if calls else {})
    return [*results, mark(message, item, path)]


def _parts(item: dict[str, Any], path: str) -> list[dict[str, Any]]:
    return items(item.get("parts"), f"{path}.parts")


def _of(part: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A part of that kind, in either spelling."""
    value = part.get(name, part.get("function_call" if name == "functionCall" else "function_response"))
    return value if isinstance(value, dict) else None


def _result(part: dict[str, Any], path: str, waiting: list[tuple[str, str]]) -> Message:
    given = _of(part, "functionResponse") or {}
    name = text(given.get("name"), f"{path}.functionResponse.name")
    ids = [identity for _, identity in waiting]
    place = ids.index(given["id"]) if given.get("id") in ids else None
    if place is None:
        place = next((place for place, (called, _) in enumerate(waiting) if called == name), None)
    if place is None:
        raise RecordError(f"{path}.functionResponse: a tool result without its call")
    _, identity = waiting.pop(place)
    value = given.get("response")
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    failed = isinstance(value, dict) and bool(value.get("error")) and "output" not in value
    return {"role": "tool", "tool_call_id": identity, "content": words, openai.ERROR: failed}


def _text(parts: list[dict[str, Any]], path: str, glue: str = "\n") -> str:
    for part in parts:
        if not isinstance(part.get("text"), str) or not PART.issuperset(part):
            raise RecordError(f"{path}.parts: a part that is no text is not supported")
    return glue.join(part["text"] for part in parts if not part.get("thought"))


def _tools(value: object) -> list[dict[str, Any]]:
    if not value:
        return []
    declared: list[dict[str, Any]] = []
    for one in items(value, "tools"):
        given = one.get("functionDeclarations", one.get("function_declarations"))
        if given is None:
            raise RecordError("tools: only functions are supported")
        if not isinstance(given, list):
            raise RecordError(f"tools: {json_type(given)}, not an array")
        declared += items(given, "tools")
    return [tool(one) for one in declared]
