"""From the spans of a trace to the conversation that led to its outcome: one pure function, `rebuild`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.harvester.trajectories.failing import failed, only, runner
from services.harvester.trajectories.openinference import outputs, result, same, tools
from services.harvester.trajectories.spans import NoPathError, Span, Trace
from services.harvester.trajectories.turns import Call, Turn, history, turn_of, turns
from shared.contracts.karma import ChatMessage


@dataclass(frozen=True, slots=True)
class GoldenPath:
    """A conversation that ends in the verified answer."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...]
    steps: int  #: model and tool calls in it
    pruned: int  #: model and tool calls of the trace that it does without


@dataclass(frozen=True, slots=True)
class Outcome:
    """The model call that gave a trace's outcome, and its answer."""

    span: Span
    answer: ChatMessage


def rebuild(spans: Iterable[Span], answer: str | None = None) -> GoldenPath:
    """The path to `answer`, or to what the trace ends with where none is given. Raises NoPathError."""
    trace = Trace(spans)
    end = _outcome(trace, answer)
    story = turns(history(end.span, trace.models))
    _find_makers(story, end.span, trace)
    _find_runners(story, end.span, trace)
    _judge(story)
    _check(story)
    kept = [turn for each in story if (turn := _pruned(each))]
    messages = (*(message for turn in kept for message in _spoken(turn)), end.answer)
    path = [end.span, *(span for turn in reversed(kept) for span in turn.makers)]
    return GoldenPath(
        messages=messages,
        tools=next((found for span in path if (found := tools(span))), ()),
        steps=sum(message.role in ("assistant", "tool") for message in messages),
        pruned=_left_out(trace, path, kept) + _unseen(story),
    )


def _find_makers(story: Sequence[Turn], end: Span, trace: Trace) -> None:
    """The maker is the first model call, of those not taken by an earlier turn, that made this tool call or gave this answer."""
    free = [(span, outputs(span)) for span in trace.models if span.ended_at <= end.started_at]
    for turn in story:
        for call in turn.calls:
            call.maker = next((span for span, answers in free if _made(answers, call)), None)
        if turn.message.role == "assistant" and not turn.calls:
            turn.maker = next((span for span, answers in free if _spoke(answers, turn.message.content)), None)
        taken = {span.id for span in turn.makers}
        free = [(span, answers) for span, answers in free if span.id not in taken]


def _made(answers: Sequence[ChatMessage], call: Call) -> bool:
    return any(call.key == each.key for message in answers for each in turn_of(message).calls)


def _spoke(answers: Sequence[ChatMessage], words: str | None) -> bool:
    return any(not message.tool_calls and same(message.content, words) for message in answers)


def _find_runners(story: Sequence[Turn], end: Span, trace: Trace) -> None:
    """A tool runs after the model call that asked for it and before the next one that saw its result."""
    until = end.started_at
    taken: set[str] = set()
    for turn in reversed(story):
        for call in turn.calls:
            if call.maker:
                call.runner = _runner(call, call.maker, until, trace, taken)
                taken |= {call.runner.id} if call.runner else set()
        until = min([until, *(span.started_at for span in turn.makers)])


def _runner(call: Call, maker: Span, until: datetime, trace: Trace, taken: set[str]) -> Span | None:
    """Of those that worked for the same agent first: another may have done the like elsewhere at that time."""
    between = [span for span in trace.spans if maker.ended_at <= span.started_at and span.ended_at <= until]
    free = [span for span in between if span.id not in taken]
    own = [span for span in free if trace.owner(span) == trace.owner(maker)]
    return runner(call, own) or only(call, own) or runner(call, free)


def _judge(story: Sequence[Turn]) -> None:
    succeeded: set[str] = set()
    for turn in reversed(story):
        for call in turn.calls:
            call.good = call.result is not None and not failed(call, tried_again=call.name in succeeded)
        succeeded |= {call.name for call in turn.calls if call.good}


def _check(story: Sequence[Turn]) -> None:
    asked = [index for index, turn in enumerate(story) if turn.message.role == "user"]
    if not asked:
        raise NoPathError("the model call that gave the answer was asked by no user message")
    calls = [call for turn in story[asked[-1] :] for call in turn.calls]
    if calls and not any(call.good for call in calls):
        # Without them the answer would rest on nothing, and teach to answer so.
        raise NoPathError("every tool call that the answer could rest on failed")


def _pruned(turn: Turn) -> Turn | None:
    """The turn with its good calls only; nothing of it where it made calls and none was good."""
    good = [call for call in turn.calls if call.good]
    return Turn(turn.message, good, turn.maker) if good or not turn.calls else None


def _spoken(turn: Turn) -> Iterator[ChatMessage]:
    """The turn's messages; a call without an id gets one, for its result to name."""
    named = [(call.id or f"call_{number}", call) for number, call in enumerate(turn.calls)]
    yield turn.message.model_copy(update={"tool_calls": tuple({**call.asked, "id": id} for id, call in named)})
    yield from (call.result.model_copy(update={"tool_call_id": id}) for id, call in named if call.result)


def _left_out(trace: Trace, path: Sequence[Span], kept: Sequence[Turn]) -> int:
    """Model and tool calls off the path, save those that worked inside a tool call on it."""
    runners = {call.runner.id for turn in kept for call in turn.calls if call.runner}
    used = runners | {span.id for span in path}
    steps = [*trace.model_calls, *(span for span in trace.spans if span.kind == "TOOL")]
    return sum(span.id not in used and not any(up.id in runners for up in trace.above(span)) for span in steps)


def _unseen(story: Sequence[Turn]) -> int:
    """Pruned calls that left no span of their own."""
    return sum(not call.good and call.runner is None for turn in story for call in turn.calls)


def _outcome(trace: Trace, answer: str | None) -> Outcome:
    """The call that gave the record's answer, or the root's; else the root's last, where the root vouches for the answer."""
    if not trace.models:
        raise NoPathError("the trace holds no model call that succeeded")
    roots = [result(root) for root in trace.roots if result(root)]
    for wanted in [answer] if answer else roots:
        if found := _giving(trace, wanted):
            return found
    if answer and not any(same(text, answer) for text in roots):
        # Only what was verified may be trained: this trace ended elsewhere, or its last spans are not here.
        raise NoPathError("no model call of the trace gave the record's answer")
    return _last(trace)


def _giving(trace: Trace, wanted: str) -> Outcome | None:
    giving = [
        Outcome(span, ChatMessage(role="assistant", content=message.content))
        for span in trace.models
        for message in outputs(span)
        if message.content and same(message.content, wanted)
    ]
    return max(giving, key=lambda each: (-trace.depth(each.span), each.span.ended_at), default=None)


def _last(trace: Trace) -> Outcome:
    span = max(trace.models, key=lambda each: (-trace.depth(each), each.ended_at))
    message = next((message for message in outputs(span) if message.content and not message.tool_calls), None)
    if message is None:
        raise NoPathError("the last model call of the trace asks for tools and gives no answer")
    return Outcome(span, message)
