"""Read a message that is recorded as a list of parts: OTel GenAI's, OpenAI's, Anthropic's and Bedrock's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from services.harvester.trajectories.messages import FailedResult, Role, parsed, role_of, tool_call, words
from services.harvester.trajectories.spans import NoPathError
from shared.contracts.karma import ChatMessage

TEXTS = frozenset({"text", "input_text", "output_text"})
CALLS = frozenset({"tool_call", "tool_use"})
RESULTS = frozenset({"tool_call_response", "tool_result"})
THOUGHTS = frozenset({"reasoning", "thinking", "redacted_thinking"})  # not said to anybody
PARTS = TEXTS | CALLS | RESULTS | THOUGHTS
BEDROCK = frozenset({"text", "toolUse", "toolResult", "reasoningContent"})


def chat_messages(message: Mapping[str, Any], role: Role | None = None) -> list[ChatMessage]:
    """One recorded message as chat messages: the results in it are a tool's, also where the role is the user's."""
    role = role or role_of(message.get("role"))
    content = message.get("parts", message.get("content"))
    parts = [] if content is None or content == "" else content if isinstance(content, list) else [content]
    id = message.get("tool_call_id") or message.get("id")
    asked = [_openai_call(call) for call in parsed(message.get("tool_calls")) or ()]
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[ChatMessage] = []
    for part in parts:
        match _plain(part):
            case "text", text:
                texts.append(words(text))
            case "call", call:
                calls.append(call)
            case "result", result:
                results.append(result)
    said = "\n".join(texts)
    if results:
        return [*results, *([ChatMessage(role=role, content=said)] if said and role == "user" else [])]
    if role == "tool":
        return [ChatMessage(role=role, content=said, tool_call_id=str(id) if id else None)]
    if role == "assistant":
        return [ChatMessage(role=role, content=said or None, tool_calls=tuple(asked or calls))]
    return [ChatMessage(role=role, content=said)]


def blocks(value: Any) -> Any:
    """Content that may be a list of parts, or the JSON of one; a text that merely looks like JSON stays a text."""
    found = parsed(value) if isinstance(value, str) and value.startswith("[") else value
    if isinstance(found, list) and found and all(isinstance(each, dict) and _is_part(each) for each in found):
        return found
    return value


def result_text(value: Any) -> str:
    """What a tool returned, as the model reads it: the texts of a list of text parts, else a text or JSON."""
    found = blocks(value)
    if isinstance(found, list):
        texts = [each.get("text", each.get("content")) for each in found if isinstance(each, dict)]
        spoken = [text for text in texts if isinstance(text, str)]
        if len(spoken) == len(found):
            return "\n".join(spoken)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _is_part(value: Mapping[str, Any]) -> bool:
    return value.get("type") in PARTS or (bool(value) and set(value) <= BEDROCK)


def _plain(part: Any) -> tuple[str, Any]:
    """What a part is: ("text", str), ("call", call), ("result", message) or ("thought", None)."""
    match part:
        case str():
            return "text", part
        case {"type": kind} if kind in TEXTS:
            return "text", part.get("text", part.get("content"))
        case {"type": kind} if kind in CALLS:
            return "call", tool_call(part.get("id"), part.get("name"), part.get("arguments", part.get("input")))
        case {"type": kind} if kind in RESULTS:
            return "result", _result(part.get("id", part.get("tool_use_id")), _returned(part), part.get("is_error"))
        case {"toolUse": {**use}}:
            return "call", tool_call(use.get("toolUseId"), use.get("name"), use.get("input"))
        case {"toolResult": {**result}}:
            return "result", _result(result.get("toolUseId"), result.get("content"), result.get("status") == "error")
        case {"text": str(text), **rest} if not rest:
            return "text", text
        case {"reasoningContent": _}:
            return "thought", None
        case {"type": kind} if kind in THOUGHTS:
            return "thought", None
    raise NoPathError("a message of the trace holds more than text")


def _returned(part: Mapping[str, Any]) -> Any:
    """pydantic-ai writes `result` where OTel GenAI has `response`."""
    found = [part[name] for name in ("response", "result", "content") if name in part]
    if not found:
        raise NoPathError("a tool's result was recorded without its content")
    return found[0]


def _result(id: Any, content: Any, failed: Any) -> ChatMessage:
    kind = FailedResult if failed is True else ChatMessage
    return kind(role="tool", content=result_text(content), tool_call_id=str(id) if id else None)


def _openai_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    return tool_call(call.get("id"), function.get("name"), function.get("arguments"))
