"""What the readers of all conventions share: roles, tool calls, indexed attributes, texts that are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from services.harvester.trajectories.spans import NoPathError
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
    "function": "tool",
}
LOST = "the trace lost messages of a model call: record with OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=10000"
MASKED = "__REDACTED__"  # what OpenInference writes in place of content that it is set to hide


class FailedResult(ChatMessage):
    """A tool's result that is recorded as a failure (`is_error`, `status: error`)."""


def role_of(value: Any) -> Role:
    role = ROLES.get(str(value))
    if role is None:
        raise NoPathError("a message of the trace has a role that a chat does not know")
    return role


def words(value: Any) -> str:
    """A text of the trace. Raises NoPathError where it was left out of the recording."""
    if value == MASKED or value is None:
        raise NoPathError("the trace was recorded with its content masked: record it with inputs and outputs shown")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tool_call(id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call in OpenAI's chat form."""
    given = "{}" if arguments in (None, "") else arguments
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return {"id": str(id or ""), "type": "function", "function": {"name": str(name or ""), "arguments": text}}


def tool_definition(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in OpenAI's chat form; the Responses API, Anthropic and OTel GenAI write a function's fields flat."""
    if "function" in schema or "name" not in schema:
        return dict(schema)
    fields = {name: schema[name] for name in ("name", "description", "parameters", "strict") if name in schema}
    if "input_schema" in schema:
        fields["parameters"] = schema["input_schema"]
    return {"type": "function", "function": fields}


def indexed(attributes: Mapping[str, Any], prefix: str) -> dict[int, dict[str, Any]]:
    """`prefix.N.rest` as one mapping for each N, in the order of N."""
    rows: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
        if name.startswith(f"{prefix}.") and number.isdecimal():
            rows.setdefault(int(number), {})[rest] = value
    return dict(sorted(rows.items()))


def unbroken(rows: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of indexed messages, none of them missing."""
    if list(rows) != list(range(len(rows))):
        raise NoPathError(LOST)
    return list(rows.values())


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
