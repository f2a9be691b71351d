"""The model call that gave a trace's outcome, and in which words."""

from __future__ import annotations

from dataclasses import dataclass

from services.harvester.trajectories.openinference import outputs, result, same
from services.harvester.trajectories.spans import NoPathError, Span, Trace
from shared.contracts.karma import ChatMessage


@dataclass(frozen=True, slots=True)
class Outcome:
    span: Span
    answer: ChatMessage


def outcome(trace: Trace, answer: str | None) -> Outcome:
    """The call that gave the record's answer, or the root's; else the root's last, where the root vouches for the answer."""
    if not trace.models:
        raise NoPathError("the trace holds no model call that succeeded")
    roots = [result(root) for root in trace.roots if result(root)]
    for wanted in [answer] if answer else roots:
        if found := _giving(trace, wanted):
            return found
    if answer and not any(same(said, answer) for said in roots):
        # Only what was verified may be trained: this trace ended elsewhere, or its last spans are not here.
        raise NoPathError("no model call of the trace gave the record's answer")
    return _last(trace)


def _giving(trace: Trace, wanted: str) -> Outcome | None:
    giving = [
        Outcome(span, ChatMessage(role="assistant", content=said.content))
        for span in trace.models
        for said in outputs(span)
        if said.content and same(said.content, wanted)
    ]
    return max(giving, key=lambda each: (-trace.depth(each.span), each.span.ended_at), default=None)


def _last(trace: Trace) -> Outcome:
    span = max(trace.models, key=lambda each: (-trace.depth(each), each.ended_at))
    said = next((said for said in outputs(span) if said.content and not said.tool_calls), None)
    if said is None:
        raise NoPathError("the last model call of the trace asks for tools and gives no answer")
    return Outcome(span, said)
