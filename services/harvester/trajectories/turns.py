"""A conversation in turns: each message with the tool calls it makes and their results, whatever ids a server gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.harvester.trajectories.messages import parsed
from services.harvester.trajectories.model_calls import inputs, outputs
from services.harvester.trajectories.spans import Span
from shared.contracts.karma import ChatMessage


@dataclass(slots=True)
class Call:
    """One tool call of a turn and what came back; no result means that none was awaited."""

    asked: dict[str, Any]
    result: ChatMessage | None = None
    maker: Span | None = None  #: the model call that asked for it, where this trace holds it
    runner: Span | None = None  #: the span that ran it
    good: bool = True  #: it led somewhere

    @property
    def key(self) -> tuple[str, str, str]:
        """What distinguishes it from others, also where a server restarts its ids."""
        return self.id, self.name, json.dumps(self.arguments, sort_keys=True)

    @property
    def id(self) -> str:
        return str(self.asked["id"])

    @property
    def name(self) -> str:
        return str(self.asked["function"]["name"])

    @property
    def arguments(self) -> Any:
        return parsed(self.asked["function"]["arguments"])


@dataclass(slots=True)
class Turn:
    message: ChatMessage
    calls: list[Call] = field(default_factory=list)
    maker: Span | None = None  #: the model call that gave it, where it made no calls

    @property
    def makers(self) -> list[Span]:
        """Mostly one; several where messages that followed one another were made one."""
        return [span for span in (self.maker, *(call.maker for call in self.calls)) if span]

    def pending(self, id: str | None) -> Call | None:
        """The call that waits for a result of this id; a result without one answers the first that waits."""
        return next((call for call in self.calls if call.result is None and (id is None or call.id == id)), None)


def turn_of(message: ChatMessage) -> Turn:
    return Turn(message, [Call(asked) for asked in message.tool_calls])


def turns(messages: Iterable[ChatMessage]) -> list[Turn]:
    """Results go to the latest call of their id: some servers restart their ids in every answer.

    A result of no call is a turn of its own, of the role `tool`.
    """
    found: list[Turn] = []
    for message in messages:
        waiting = (turn.pending(message.tool_call_id) for turn in reversed(found))
        if message.role == "tool" and (call := next(filter(None, waiting), None)):
            call.result = message
        else:
            found.append(turn_of(message))
    return found


def merged(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Assistant messages that follow one another as one: the Responses API makes a message of every tool call."""
    found: list[ChatMessage] = []
    for message in messages:
        if found and message.role == "assistant" == found[-1].role:
            last = found.pop()
            words = "\n".join(filter(None, (last.content, message.content)))
            calls = (*last.tool_calls, *message.tool_calls)
            found.append(ChatMessage(role="assistant", content=words or None, tool_calls=calls))
        elif message.role != "assistant" or message.content or message.tool_calls:
            found.append(message)
    return found


def history(span: Span, models: Sequence[Span]) -> list[ChatMessage]:
    """The context of a model call; where the server kept the earlier part of it, that part from the calls before."""
    found = inputs(span)
    while (missing := _uncalled(found)) and (before := _asker(missing, span, models)):
        found = [*inputs(before), *outputs(before), *(message for message in found if message.role != "system")]
        span = before
    return merged(found)


def _uncalled(messages: Sequence[ChatMessage]) -> str | None:
    asked: set[str] = set()
    for message in messages:
        asked |= {str(call["id"]) for call in message.tool_calls}
        if message.role == "tool" and message.tool_call_id not in asked:
            return message.tool_call_id
    return None


def _asker(call_id: str, span: Span, models: Sequence[Span]) -> Span | None:
    """The last model call before `span` that made this tool call."""
    earlier = [each for each in models if each.id != span.id and each.ended_at <= span.started_at < span.ended_at]
    asking = [
        each
        for each in earlier
        if any(call["id"] == call_id for message in outputs(each) for call in message.tool_calls)
    ]
    return max(asking, key=lambda each: each.ended_at, default=None)
