"""Read OTel GenAI: messages in attributes, in `operation.details` events, or each in an event of its own.

Names: https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai), and for the events of single messages
https://github.com/open-telemetry/semantic-conventions/blob/v1.36.0/docs/gen-ai/gen-ai-events.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.harvester.trajectories.messages import Role, parsed, tool_definition, words
from services.harvester.trajectories.parts import blocks, chat_messages
from services.harvester.trajectories.spans import Event, NoPathError, Span
from shared.contracts.karma import ChatMessage

INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
INSTRUCTIONS, DEFINITIONS = "gen_ai.system_instructions", "gen_ai.tool.definitions"
DETAILS = "gen_ai.client.inference.operation.details"
EVENTS: dict[str, Role] = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
CHOICE = "gen_ai.choice"
# Whole lists in one event: OTel GenAI before 1.28, still written by some.
PROMPT, COMPLETION = ("gen_ai.content.prompt", "gen_ai.prompt"), ("gen_ai.content.completion", "gen_ai.completion")


def has_messages(span: Span) -> bool:
    found = _recorded(span)
    return INPUT in found or OUTPUT in found


def inputs(span: Span) -> list[ChatMessage]:
    """The context a model call was given."""
    found = _recorded(span)
    messages = [message for each in _json(found.get(INPUT)) for message in chat_messages(each)]
    if INSTRUCTIONS in found and not any(message.role == "system" for message in messages):
        return [*chat_messages({"parts": _json(found[INSTRUCTIONS])}, "system"), *messages]
    return messages


def outputs(span: Span) -> list[ChatMessage]:
    """The answer of a model call."""
    return [message for each in _json(_recorded(span).get(OUTPUT)) for message in chat_messages(each, "assistant")]


def tools(span: Span) -> tuple[dict[str, Any], ...]:
    """The tools a model call could use, in OpenAI's chat form."""
    return tuple(tool_definition(each) for each in _json(_recorded(span).get(DEFINITIONS)) if isinstance(each, dict))


def has_message_events(span: Span) -> bool:
    return any(event.name in EVENTS or event.name in (CHOICE, PROMPT[0]) for event in span.events)


def event_inputs(span: Span) -> list[ChatMessage]:
    single = [
        message
        for event in span.events
        if event.name in EVENTS
        for message in chat_messages(_body(event), EVENTS[event.name])
    ]
    return [*_listed(span.events, *PROMPT), *single]


def event_outputs(span: Span) -> list[ChatMessage]:
    choices = [_body(event) for event in span.events if event.name == CHOICE]
    single = [message for choice in choices for message in chat_messages(_message(choice), "assistant")]
    return [*_listed(span.events, *COMPLETION), *single]


def _recorded(span: Span) -> Mapping[str, Any]:
    """The attributes of a span with those of its `operation.details` events."""
    details = [event.attributes for event in span.events if event.name == DETAILS]
    return {name: value for each in (span.attributes, *details) for name, value in each.items()}


def _json(value: Any) -> list[Any]:
    found = parsed(value)
    if found is None:
        return []
    if not isinstance(found, list):
        raise NoPathError("messages of the trace are cut off: record without OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    return found


def _body(event: Event) -> dict[str, Any]:
    """An event's content: its attributes, or the JSON in one of them."""
    body = parsed(event.attributes.get("gen_ai.event.content"))
    found = {**event.attributes, **(body if isinstance(body, dict) else {})}
    return found | {"content": blocks(found.get("content"))}


def _message(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = parsed(choice.get("message"))
    if isinstance(message, dict):
        return message | {"content": blocks(message.get("content"))}
    return {"content": blocks(words(choice.get("message")))}


def _listed(events: Iterable[Event], name: str, attribute: str) -> list[ChatMessage]:
    found = [parsed(event.attributes.get(attribute)) for event in events if event.name == name]
    rows = [row for each in found for row in (each if isinstance(each, list) else [each])]
    default: Role | None = "assistant" if name == COMPLETION[0] else None
    return [message for row in rows for message in chat_messages(row, default)]
