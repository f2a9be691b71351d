"""From the spans of a trace to the conversation that led to its outcome: one pure function, `rebuild`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.harvester.trajectories.failing import failed, only, runner
from services.harvester.trajectories.grounds import check_grounds
from services.harvester.trajectories.messages import same
from services.harvester.trajectories.model_calls import outputs, tools
from services.harvester.trajectories.outcome import Outcome, find_outcome, is_answering
from services.harvester.trajectories.spans import Span, Trace
from services.harvester.trajectories.tool_runs import result, tool_name
from services.harvester.trajectories.turns import Call, Turn, history, turn_of, turns
from shared.contracts.karma import ChatMessage


@dataclass(frozen=True, slots=True)
class GoldenPath:
    """A conversation that ends in the verified answer."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...]
    steps: int  #: model and tool calls in it
    pruned: int  #: model and tool calls of the trace that it does without


def rebuild(spans: Iterable[Span], answer: str | None = None, question: str | None = None) -> GoldenPath:
    """The path to `answer`, or to what the trace ends with where none is given; of several to that of `question`.

    Raises NoPathError.
    """
    trace = Trace(spans)
    end = find_outcome(trace, answer, question)
    story = turns(history(end.span, trace.models))
    _find_makers(story, end.span, trace)
    _find_runners(story, end.span, trace)
    for each in story:
        _share_out(each)
    _judge(story)
    check_grounds(story, trace)
    kept = [turn for each in story if (turn := _pruned(each))]
    messages = (*(message for turn in kept for message in _spoken(turn)), end.answer)
    path = [end.span, *(span for turn in reversed(kept) for span in turn.makers)]
    return GoldenPath(
        messages=messages,
        tools=_tools(path, kept, end),
        steps=sum(message.role in ("assistant", "tool") for message in messages),
        pruned=_left_out(trace, path, kept, end) + _unseen(story),
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


def _share_out(turn: Turn) -> None:
    """One text may be the result of all calls of a turn (smolagents): give each its own, where their spans have them."""
    answered = [call for call in turn.calls if call.result]
    results = [result(call.runner) for call in turn.calls if call.runner]
    if len(answered) != 1 or len(results) != len(turn.calls) or len(results) == 1:
        return
    whole = answered[0].result
    if whole and whole.tool_call_id is None and same("\n".join(results), whole.content):
        for call, text in zip(turn.calls, results, strict=True):
            call.result = whole.model_copy(update={"content": text})


def _judge(story: Sequence[Turn]) -> None:
    """Judge the calls. One that was to take the answer, and did not end the run, was refused by the agent."""
    succeeded: set[str] = set()
    asked = False
    for turn in reversed(story):
        asked = asked or turn.message.role == "user"
        for call in turn.calls:
            refused = not asked and is_answering(call.name)
            call.good = not refused and not failed(call, tried_again=call.name in succeeded)
        succeeded |= {call.name for call in turn.calls if call.good}


def _pruned(turn: Turn) -> Turn | None:
    """The turn with its good calls only; nothing of it where it made calls and none was good, or is the result of none."""
    good = [call for call in turn.calls if call.good]
    return Turn(turn.message, good, turn.maker) if good or not (turn.calls or turn.message.role == "tool") else None


def _spoken(turn: Turn) -> Iterator[ChatMessage]:
    """The turn's messages; a call without an id gets one, for its result to name."""
    named = [(call.id or f"call_{number}", call) for number, call in enumerate(turn.calls)]
    yield turn.message.model_copy(update={"tool_calls": tuple({**call.asked, "id": id} for id, call in named)})
    yield from (call.result.model_copy(update={"tool_call_id": id}) for id, call in named if call.result)


def _tools(path: Sequence[Span], kept: Sequence[Turn], end: Outcome) -> tuple[dict[str, Any], ...]:
    """The tools of the last model call that recorded some, without the one that only took the answer."""
    found = next((found for span in path if (found := tools(span))), ())
    called = {call.name for turn in kept for call in turn.calls}
    return tuple(each for each in found if _name(each) != end.tool or end.tool in called)


def _name(tool: dict[str, Any]) -> str | None:
    function = tool.get("function")
    return str(function.get("name")) if isinstance(function, dict) else None


def _left_out(trace: Trace, path: Sequence[Span], kept: Sequence[Turn], end: Outcome) -> int:
    """Model and tool calls off the path, save those that worked inside a tool call on it, and what took the answer."""
    runners = {call.runner.id for turn in kept for call in turn.calls if call.runner}
    used = runners | {span.id for span in path}
    asked = [span for span in trace.model_calls if span.failed or outputs(span)]
    steps = [*asked, *(span for span in trace.spans if span.kind == "TOOL")]
    left = [span for span in steps if span.id not in used and not any(up.id in runners for up in trace.above(span))]
    took = [span for span in left if end.tool and tool_name(span) == end.tool and span.started_at >= end.span.ended_at]
    return len(left) - len(took[:1])


def _unseen(story: Sequence[Turn]) -> int:
    """Pruned calls that left no span of their own."""
    return sum(not call.good and call.runner is None for turn in story for call in turn.calls)
