"""Which span ran a tool call, and whether the call failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from services.harvester.trajectories.openinference import call_ids, given, parsed, result, same, tool_name
from services.harvester.trajectories.spans import LLM, Span
from services.harvester.trajectories.turns import Call

# How agents hand a tool's exception to the model, in words.
ERROR_WORDS = re.compile(
    r"\s*(([\w.]*(error|exception)( executing tool [^:]*)?|tool error): |traceback \(most recent call last\)|"
    r"an error occurred while running the tool)",
    re.IGNORECASE,
)


def runner(call: Call, spans: Sequence[Span]) -> Span | None:
    """The span that ran a call, of those that may have: by its id, else by its name with its arguments or its result."""
    if named := [span for span in spans if call.id in call_ids(span)]:
        return max(named, key=lambda span: span.ended_at)
    words = call.result.content if call.result else None
    alike = [span for span in _of(call, spans) if _ran_with(span, call.arguments) or _gave(span, words)]
    # A tool that tries again by itself leaves several spans; what it handed back is that of the last one.
    return max(alike, key=lambda span: (span.kind == "TOOL", _gave(span, words), span.ended_at), default=None)


def only(call: Call, spans: Sequence[Span]) -> Span | None:
    """The span of the call's name, where there is just one: some record neither ids nor arguments."""
    named = _of(call, spans)
    return named[0] if len(named) == 1 else None


def failed(call: Call, tried_again: bool) -> bool:
    """Whether a call's span or result reports a failure.

    Words that look like an error may be what a tool was to read: against a span with status OK they are believed only
    where the tool was called again, with success.
    """
    if call.runner and call.runner.failed:
        return True
    words = (call.result.content or "") if call.result else ""
    answer = parsed(words)
    if isinstance(answer, dict):
        return _flagged(answer)
    doubted = call.runner is not None and call.runner.status == "OK" and not tried_again
    return not doubted and ERROR_WORDS.match(answer if isinstance(answer, str) else words) is not None


def _of(call: Call, spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if span.kind != LLM and tool_name(span) == call.name]


def _gave(span: Span, words: str | None) -> bool:
    return bool(words) and same(result(span), words)


def _ran_with(span: Span, arguments: Any) -> bool:
    """A span also records the defaults that the model left out."""
    ran = given(span)
    if isinstance(ran, dict) and isinstance(arguments, dict):
        return all(name in ran and same(ran[name], value) for name, value in arguments.items())
    return same(ran, arguments)


def _flagged(answer: Mapping[str, Any]) -> bool:
    return any(answer.get(flag) for flag in ("error", "is_error", "isError")) or answer.get("success") is False
