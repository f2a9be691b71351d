"""The model call that gave a trace's outcome: in words, or as the argument of a tool that takes the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from services.harvester.trajectories.messages import parsed, same
from services.harvester.trajectories.model_calls import inputs, outputs
from services.harvester.trajectories.spans import NoPathError, Span, Trace
from services.harvester.trajectories.tool_runs import result
from shared.contracts.karma import ChatMessage

# Tools whose argument is the answer: smolagents' and pydantic-ai's. Others are known by an argument that is the record's answer.
ANSWERING = re.compile(r"final_answer|final_result(_.+)?")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The model call that gave the answer, the answer, and the tool in whose arguments it was, if it was."""

    span: Span
    answer: ChatMessage
    tool: str | None = None


def is_answering(tool: str) -> bool:
    return ANSWERING.fullmatch(tool) is not None


def find_outcome(trace: Trace, answer: str | None, question: str | None = None) -> Outcome:
    """The call that gave the record's answer, or the root's; else the root's last, where the root vouches for the answer.

    Of several that gave the record's answer those are preferred that were asked the record's question.
    """
    if not trace.models:
        raise NoPathError("the trace holds no model call that succeeded")
    if not any(outputs(span) for span in trace.models):
        raise NoPathError(
            "the model calls of the trace hold no answer: set the instrumentation to record content in its spans"
        )
    roots = [result(root) for root in trace.roots if result(root)]
    for wanted in [answer] if answer else roots:
        if found := _giving(trace, wanted, question):
            return found
    if answer and not any(same(text, answer) for text in roots):
        # Only what was verified may be trained: this trace ended elsewhere, or its last spans are not here.
        raise NoPathError("no model call of the trace gave the record's answer")
    return _last(trace)


def _giving(trace: Trace, wanted: str, question: str | None) -> Outcome | None:
    """Of several the one that was asked the question, nearest to the root, in words rather than in a tool, the last."""
    giving = [
        outcome
        for span in trace.models
        for message in outputs(span)
        for outcome, text in _answers(span, message)
        if same(text, wanted)
    ]
    asked = [each for each in giving if len(giving) > 1 and question and _was_asked(each.span, question)]
    return max(
        asked or giving,
        key=lambda each: (-trace.depth(each.span), each.tool is None, each.span.ended_at),
        default=None,
    )


def _was_asked(span: Span, question: str) -> bool:
    return any(message.role == "user" and same(message.content, question) for message in inputs(span))


def _last(trace: Trace) -> Outcome:
    span = max(trace.models, key=lambda each: (-trace.depth(each), each.ended_at))
    found = [outcome for message in outputs(span) for outcome, _ in _answers(span, message, bool(message.tool_calls))]
    ending = [outcome for outcome in found if outcome.tool is None or is_answering(outcome.tool)]
    if not ending:
        raise NoPathError("the last model call of the trace asks for tools and gives no answer")
    return ending[0]


def _answers(span: Span, message: ChatMessage, calls_only: bool = False) -> Iterator[tuple[Outcome, Any]]:
    """What a message may be the answer by: its words, a call's only argument, or all arguments of a call as JSON."""
    if message.content and not calls_only:
        yield Outcome(span, ChatMessage(role="assistant", content=message.content)), message.content
    for call in message.tool_calls:
        name, arguments = str(call["function"]["name"]), parsed(call["function"]["arguments"])
        if not isinstance(arguments, dict) or not arguments:
            continue
        for value in (*(arguments.values() if len(arguments) == 1 else ()), arguments):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            if text.strip():
                yield Outcome(span, ChatMessage(role="assistant", content=text), name), text
