"""Which span ran a tool call, and whether the call failed: by what is recorded of it, then by its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from services.harvester.trajectories.messages import FailedResult, parsed, same
from services.harvester.trajectories.spans import LLM, Span
from services.harvester.trajectories.tool_runs import call_ids, flagged, given, reports_failure, result, tool_name
from services.harvester.trajectories.turns import Call
from shared.contracts.karma import ChatMessage

# How the tools in use hand an exception to the model, in words: (how the result begins, where that is written).
FAILURE_WORDS = (
    (r"[\w.]*(error|exception): ", "Python: str() of an exception with its class"),
    (r"traceback \(most recent call last\)", "Python: traceback.format_exc()"),
    (r"tool error: ", "LangChain's documentation, of `wrap_tool_call`"),
    (r"error (executing|invoking) tool ", "langgraph tool_node.py, smolagents agents.py, mcp tools/base.py"),
    (r"an error occurred while running the tool", "openai-agents tool.py, default_tool_error_function"),
    (r"encountered error: ", "llama-index tools/calling.py"),
    (r"tool \S+ not found\. please select a tool", "llama-index agent/workflow/base_agent.py"),
    (r"unknown tool( name)?: ", "pydantic-ai tool_manager.py, mcp tools/tool_manager.py"),
    (r"i encountered an error while trying to use the tool", "crewAI translations/en.json"),
    (r"<tool_use_error>", "Claude Code"),
    (r"the user doesn't want to (proceed|take)", "Claude Code"),
    (r"the tool call was denied\.", "pydantic-ai tools.py, ToolDenied"),
    (r"tool execution was not approved\.", "openai-agents run.py, the message of a rejection"),
    (r"user rejected the tool call for ", "LangChain human_in_the_loop.py"),
)
BEGINS_LIKE_A_FAILURE = re.compile(rf"\s*({'|'.join(words for words, _ in FAILURE_WORDS)})", re.IGNORECASE)
ERROR_DETAILS = frozenset({"type", "loc", "msg"})  # arguments that pydantic refused, as its ValidationError lists them
ENDS_LIKE_A_FAILURE = re.compile(
    r"(Fix the errors and try again\.|Please fix your mistakes\.)\s*$"  # pydantic-ai messages.py, langgraph tool_node.py
)


def runner(call: Call, spans: Sequence[Span]) -> Span | None:
    """The span that ran a call, of those that may have: by its id, else by its name with its arguments or its result."""
    if named := [span for span in spans if span.kind != LLM and call.id in call_ids(span)]:
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
    if call.runner and reports_failure(call.runner):
        return True
    if call.result is None:
        return False
    doubted = call.runner is not None and call.runner.status == "OK" and not tried_again
    return result_failed(call.result, by_words=not doubted)


def result_failed(message: ChatMessage, by_words: bool = True) -> bool:
    """Whether a tool's result is recorded as a failure, is JSON that says so, or, if that may count, reads like one."""
    words = message.content or ""
    answer = parsed(words)
    if isinstance(message, FailedResult):
        return True
    if isinstance(answer, dict):
        return flagged(answer)
    if isinstance(answer, list):
        return bool(answer) and all(isinstance(each, dict) and set(each) >= ERROR_DETAILS for each in answer)
    text = answer if isinstance(answer, str) else words
    return by_words and bool(BEGINS_LIKE_A_FAILURE.match(text) or ENDS_LIKE_A_FAILURE.search(text))


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
