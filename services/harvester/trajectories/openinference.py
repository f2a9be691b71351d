"""Read OpenInference's attributes: the messages of a model call, and the tools it had.

Names: https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.harvester.trajectories import smolagents
from services.harvester.trajectories.messages import (
    indexed,
    parsed,
    role_of,
    tool_call,
    tool_definition,
    unbroken,
    words,
)
from services.harvester.trajectories.parts import CALLS, THOUGHTS
from services.harvester.trajectories.spans import NoPathError, Span
from shared.contracts.karma import ChatMessage

NOT_TEXT = frozenset({"image", "audio", "file", "video"})


def has_messages(span: Span) -> bool:
    return any(name.startswith(("llm.input_messages.", "llm.output_messages.")) for name in span.attributes)


def inputs(span: Span) -> list[ChatMessage]:
    """The context a model call was given. Raises NoPathError where it is not plain text, or not all there."""
    rows = unbroken(indexed(span.attributes, "llm.input_messages"))
    return [message for row in rows if (message := _message(row))]


def outputs(span: Span) -> list[ChatMessage]:
    """The answer of a model call: one message a sample, or one an item of the Responses API."""
    rows = indexed(span.attributes, "llm.output_messages").values()
    return [message for row in rows if (message := _message(row))]


def tools(span: Span) -> tuple[dict[str, Any], ...]:
    """The tools a model call could use, in OpenAI's chat form."""
    rows = indexed(span.attributes, "llm.tools").values()
    return tuple(tool for row in rows if (tool := _tool(row)))


def _message(row: Mapping[str, Any]) -> ChatMessage | None:
    """One message; none where it holds thoughts only."""
    content, thought = _content(row)
    if (recorded := row.get("message.role")) in (smolagents.CALL, smolagents.RESULT):
        return smolagents.chat_message(str(recorded), content)
    role = role_of(recorded)
    if role == "assistant":
        calls = tuple(_call(each) for each in indexed(row, "message.tool_calls").values())
        if thought and not content and not calls:
            return None
        return ChatMessage(role=role, content=content or None, tool_calls=calls)
    call_id = row.get("message.tool_call_id")
    return ChatMessage(role=role, content=content, tool_call_id=str(call_id) if role == "tool" and call_id else None)


def _content(row: Mapping[str, Any]) -> tuple[str, bool]:
    """The words of a message, and whether it holds thoughts beside them."""
    texts, thought = [], False
    for part in indexed(row, "message.contents").values():
        kind, text = part.get("message_content.type"), part.get("message_content.text")
        if kind in THOUGHTS:
            thought = True
        elif text is not None and kind not in NOT_TEXT:
            texts.append(words(text))
        elif kind not in CALLS:  # which are recorded as calls, too
            raise NoPathError("a message of the trace holds more than text")
    return words(row.get("message.content") or "\n".join(texts)), thought


def _call(row: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "tool_call.function"
    return tool_call(row.get("tool_call.id"), row.get(f"{prefix}.name"), row.get(f"{prefix}.arguments"))


def _tool(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Some record the schema of a tool's parameters alone, and its name beside it."""
    schema = parsed(row.get("tool.json_schema"))
    if not isinstance(schema, dict):
        return None
    if "function" in schema or "name" in schema or not row.get("tool.name"):
        return tool_definition(schema)
    named = {"name": row["tool.name"], "description": row.get("tool.description"), "parameters": schema}
    return tool_definition({name: value for name, value in named.items() if value})
