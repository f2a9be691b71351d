"""Read OpenLLMetry before 0.53: indexed attributes; later versions write OTel GenAI's.

Names: https://github.com/traceloop/openllmetry/blob/0.50.1/packages/opentelemetry-semantic-conventions-ai
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.harvester.trajectories.messages import Role, indexed, parsed, tool_definition, unbroken
from services.harvester.trajectories.parts import blocks, chat_messages
from services.harvester.trajectories.spans import Span
from shared.contracts.karma import ChatMessage

PROMPT, COMPLETION, FUNCTIONS = "gen_ai.prompt", "gen_ai.completion", "llm.request.functions"


def has_messages(span: Span) -> bool:
    return any(name.startswith((f"{PROMPT}.", f"{COMPLETION}.")) for name in span.attributes)


def inputs(span: Span) -> list[ChatMessage]:
    """The context a model call was given."""
    rows = unbroken(indexed(span.attributes, PROMPT))
    return [message for row in rows for message in _messages(row)]


def outputs(span: Span) -> list[ChatMessage]:
    """The answer of a model call; some give it the role `unknown`."""
    rows = indexed(span.attributes, COMPLETION).values()
    return [message for row in rows for message in _messages(row, "assistant")]


def tools(span: Span) -> tuple[dict[str, Any], ...]:
    """The tools a model call could use, in OpenAI's chat form."""
    rows = indexed(span.attributes, FUNCTIONS).values()
    return tuple(tool_definition({name: parsed(value) for name, value in row.items()}) for row in rows)


def _messages(row: Mapping[str, Any], role: Role | None = None) -> list[ChatMessage]:
    found = {name: row[name] for name in ("role", "tool_call_id") if name in row}
    calls = list(indexed(row, "tool_calls").values())
    return chat_messages(found | {"content": blocks(row.get("content")), "tool_calls": calls}, role)
