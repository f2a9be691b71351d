"""Read OpenInference's attributes: the messages of a model call, the tools it had, the arguments of a tool call.

Names: https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from services.harvester.trajectories.spans import NoPathError, Span
from shared.contracts.karma import ChatMessage

Role = Literal["system", "user", "assistant", "tool"]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
}
CALL_IDS = ("tool_call.id", "tool.id", "gen_ai.tool.call.id")
MASKED = "__REDACTED__"  # what OpenInference writes in place of content that it is set to hide
NOT_TEXT = frozenset({"image", "audio", "file", "video"})


def inputs(span: Span) -> list[ChatMessage]:
    """The context a model call was given. Raises NoPathError where it is not plain text, or not all there."""
    rows = _rows(span.attributes, "llm.input_messages")
    if list(rows) != list(range(len(rows))):
        # OpenTelemetry keeps 128 attributes of a span by default, and drops the first ones silently.
        raise NoPathError("the trace lost messages of a model call: record with OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=10000")
    return [_message(row) for row in rows.values()]


def outputs(span: Span) -> list[ChatMessage]:
    """The answer of a model call: one message a sample, or one an item of the Responses API; those with nothing left out."""
    messages = [_message(row) for row in _rows(span.attributes, "llm.output_messages").values()]
    return [message for message in messages if message.content or message.tool_calls]


def tools(span: Span) -> tuple[dict[str, Any], ...]:
    """The tools a model call could use, in OpenAI's chat form."""
    schemas = (parsed(row.get("tool.json_schema")) for row in _rows(span.attributes, "llm.tools").values())
    return tuple(_tool(schema) for schema in schemas if isinstance(schema, dict))


def tool_name(span: Span) -> str:
    return str(span.attributes.get("tool.name") or span.name)


def call_ids(span: Span) -> set[str]:
    return {str(span.attributes[name]) for name in CALL_IDS if span.attributes.get(name)}


def given(span: Span) -> Any:
    """The arguments a tool ran with: a mapping where they were recorded as JSON."""
    return parsed(span.attributes.get("input.value"))


def result(span: Span) -> str:
    return str(span.attributes.get("output.value") or "")


def parsed(value: Any) -> Any:
    """A JSON string as its value; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def same(one: Any, other: Any) -> bool:
    """Whether two texts are equal as words or as JSON."""
    if isinstance(one, str) and isinstance(other, str) and one.strip() == other.strip():
        return True
    return bool(parsed(one) == parsed(other))


def _rows(attributes: Mapping[str, Any], prefix: str) -> dict[int, dict[str, Any]]:
    """`prefix.N.rest` as one mapping for each N, in the order of N."""
    rows: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
        if name.startswith(f"{prefix}.") and number.isdecimal():
            rows.setdefault(int(number), {})[rest] = value
    return dict(sorted(rows.items()))


def _message(row: Mapping[str, Any]) -> ChatMessage:
    role = ROLES.get(str(row.get("message.role")))
    if role is None:
        raise NoPathError("a message of the trace has a role that a chat does not know")
    content = _content(row)
    if role == "assistant":
        calls = tuple(_call(each) for each in _rows(row, "message.tool_calls").values())
        return ChatMessage(role=role, content=content or None, tool_calls=calls)
    call_id = row.get("message.tool_call_id")
    return ChatMessage(role=role, content=content, tool_call_id=str(call_id) if role == "tool" and call_id else None)


def _content(row: Mapping[str, Any]) -> str:
    parts = _rows(row, "message.contents").values()
    if any(part.get("message_content.type") in NOT_TEXT for part in parts):
        raise NoPathError("a message of the trace holds more than text")
    texts = [
        part["message_content.text"]
        for part in parts
        if part.get("message_content.type") == "text" and part.get("message_content.text")
    ]
    content = str(row.get("message.content") or "\n".join(map(str, texts)))
    if content == MASKED:
        raise NoPathError("the trace was recorded with its content masked: record it with inputs and outputs shown")
    return content


def _call(row: Mapping[str, Any]) -> dict[str, Any]:
    arguments = row.get("tool_call.function.arguments") or "{}"
    return {
        "id": str(row.get("tool_call.id") or ""),
        "type": "function",
        "function": {
            "name": str(row.get("tool_call.function.name") or ""),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
        },
    }


def _tool(schema: dict[str, Any]) -> dict[str, Any]:
    """The Responses API and others write a function's fields flat; the chat form has them under `function`."""
    if "function" in schema or "name" not in schema:
        return schema
    fields = {name: schema[name] for name in ("name", "description", "parameters", "strict") if name in schema}
    if "input_schema" in schema:
        fields["parameters"] = schema["input_schema"]
    return {"type": "function", "function": fields}
