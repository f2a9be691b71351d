"""The messages of a model call and the tools it had, in whichever convention its span is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.harvester.trajectories import genai, openinference, openllmetry
from services.harvester.trajectories.spans import NoPathError, Span
from shared.contracts.karma import ChatMessage


@dataclass(frozen=True, slots=True)
class Convention:
    has_messages: Callable[[Span], bool]
    inputs: Callable[[Span], list[ChatMessage]]
    outputs: Callable[[Span], list[ChatMessage]]
    tools: Callable[[Span], tuple[dict[str, Any], ...]]


# OTel GenAI's attributes first: where Phoenix translates them into OpenInference's, it may lose parts that it does not know.
CONVENTIONS = (
    Convention(genai.has_messages, genai.inputs, genai.outputs, genai.tools),
    Convention(openinference.has_messages, openinference.inputs, openinference.outputs, openinference.tools),
    Convention(openllmetry.has_messages, openllmetry.inputs, openllmetry.outputs, openllmetry.tools),
    Convention(genai.has_message_events, genai.event_inputs, genai.event_outputs, genai.tools),
)
NONE = Convention(lambda _: False, lambda _: [], lambda _: [], lambda _: ())


def inputs(span: Span) -> list[ChatMessage]:
    """The context a model call was given. Raises NoPathError where it is not plain text, or not all there."""
    messages = _convention(span).inputs(span)
    for message in messages:
        if message.role in ("user", "assistant") and not (message.content or "").strip() and not message.tool_calls:
            raise NoPathError(f"a message of the {message.role} in the trace is empty: its words were not recorded")
    return [message for message in messages if message.role != "system" or message.content]


def outputs(span: Span) -> list[ChatMessage]:
    """The answer of a model call: one message a sample; those with nothing left out."""
    return [message for message in _convention(span).outputs(span) if message.content or message.tool_calls]


def tools(span: Span) -> tuple[dict[str, Any], ...]:
    """The tools a model call could use, in OpenAI's chat form."""
    return next((found for each in CONVENTIONS if (found := each.tools(span))), ())


def _convention(span: Span) -> Convention:
    return next((each for each in CONVENTIONS if each.has_messages(span)), NONE)
