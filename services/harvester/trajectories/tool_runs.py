"""Read the span of a tool that ran: its name, the call it answers, what it was given, what it returned, whether it failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.harvester.trajectories.messages import parsed
from services.harvester.trajectories.parts import result_text
from services.harvester.trajectories.spans import Span

NAMES = ("tool.name", "gen_ai.tool.name", "traceloop.entity.name")
CALL_IDS = ("tool_call.id", "tool.id", "gen_ai.tool.call.id")
GIVEN = ("gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input")
RETURNED = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output", "final_result")
FAILURES = ("error.type", "pydantic_ai.tool.retry.cause")  # attributes that only a failure has
STATUS = "gen_ai.tool.status"  # of Strands: error or success


def tool_name(span: Span) -> str:
    return str(_first(span, NAMES) or span.name)


def call_ids(span: Span) -> set[str]:
    found = {str(span.attributes[name]) for name in CALL_IDS if span.attributes.get(name)}
    message = _tool_message(parsed(_first(span, RETURNED)))
    return found | ({str(message["tool_call_id"])} if message.get("tool_call_id") else set())


def given(span: Span) -> Any:
    """The arguments a tool ran with: a mapping where they were recorded as JSON."""
    found = parsed(_first(span, GIVEN))
    if isinstance(found, dict):
        # smolagents and llama-index record a Python call, LangChain's callbacks a run.
        return next((found[name] for name in ("kwargs", "inputs") if isinstance(found.get(name), dict)), found)
    return found


def result(span: Span) -> str:
    """What a tool or an agent returned, as text."""
    recorded = _first(span, RETURNED)
    if recorded is None:
        recorded = next((each.attributes.get("message") for each in span.events if each.name == "gen_ai.choice"), None)
    value = parsed(recorded)
    if message := _tool_message(value):
        return result_text(message.get("content"))
    if isinstance(value, dict) and isinstance(value.get("blocks"), list):  # llama-index's ToolOutput
        return result_text(value["blocks"])
    return "" if recorded is None else result_text(recorded)


def reports_failure(span: Span) -> bool:
    """Whether the span itself says that the tool failed, in its status or in a field that means it."""
    value = parsed(_first(span, RETURNED))
    return (
        span.failed
        or any(span.attributes.get(name) for name in FAILURES)
        or span.attributes.get(STATUS) == "error"
        or _tool_message(value).get("status") == "error"
        or (isinstance(value, dict) and flagged(value))
    )


def flagged(answer: Mapping[str, Any]) -> bool:
    """Whether a result reports a failure in a field that means it; a state that it only names comes with more than words."""
    if any(answer.get(flag) for flag in ("error", "is_error", "isError")):
        return True
    if any(answer.get(flag) in (False, "false", "False") for flag in ("success", "ok")):
        return True
    return str(answer.get("status")).lower() in ("error", "failed", "failure") and REPORT.issuperset(answer)


#: Fields of an answer that holds nothing but how it went.
REPORT = frozenset({"status", "message", "detail", "details", "reason", "code", "msg", "type", "error", "errors"})


def _first(span: Span, names: tuple[str, ...]) -> Any:
    return next((span.attributes[name] for name in names if span.attributes.get(name) not in (None, "")), None)


def _tool_message(value: Any) -> Mapping[str, Any]:
    """LangChain's ToolMessage, as its callbacks serialise it; empty where there is none."""
    match value:
        case {"type": "tool", "data": {"content": _, **rest}} if "tool_call_id" in rest:
            return dict(value["data"])
        case {"output": {"kwargs": {"content": _, "type": "tool"}}}:
            return dict(value["output"]["kwargs"])
    return {}
