"""Event streams of OpenHands: trajectories (`action`, `observation`), conversations of its SDK (`kind`), rows of its benchmarks.

Sources: https://github.com/OpenHands/OpenHands (openhands/events/serialization), https://github.com/OpenHands/software-agent-sdk
(openhands/sdk/event).
"""

from __future__ import annotations

import json
from typing import Any

from shared.import_formats.history import Event, History
from shared.import_formats.record import RecordError, items, text
from shared.import_formats.turns import call, content

STREAMS = ("history", "trajectory")
FIELDS = frozenset({*STREAMS, "instruction", "test_result"})
SOURCES = ("user", "agent", "environment")
#: What an agent does that is no call of a tool.
SILENT = frozenset(
    {"change_agent_state", "null", "recall", "system", "condensation", "condensation_request", "loop_recovery"}
)
STILL_RUNNING = -1  # the exit code of a command that was not waited for
ANSWERS = ("finish",)
NOT_ARGUMENTS = frozenset({"thought", "hidden", "confirmation_state", "blocking", "is_static", "security_risk"})


def begins(value: object) -> bool:
    """Whether a value is an event of such a stream."""
    return (
        isinstance(value, dict)
        and value.get("source") in SOURCES
        and ("action" in value or "observation" in value or str(value.get("kind")).endswith(("Event", "Condensation")))
    )


def matches(values: dict[str, Any]) -> bool:
    return any(map(begins, _events(values)[:1]))


def conversation(values: dict[str, Any]) -> History:
    """A row of a benchmark's output. Raises RecordError."""
    if not matches(values):
        raise RecordError("no history of OpenHands' events")
    made = history(list(enumerate(items(_events(values), "history"))))
    tested = values.get("test_result") or {}
    report = tested.get("report", tested) if isinstance(tested, dict) else {}
    if isinstance(report, dict) and isinstance(report.get("resolved"), bool):
        made.feedback = "up" if report["resolved"] else "down"
    elif tested:
        raise RecordError("test_result: changes what a record means, and has no report that names it resolved or not")
    return made


def _events(values: dict[str, Any]) -> list[Any]:
    """The events of a row; older ones have them in pairs of an action and its observation."""
    given: list[Any] = next((values[name] for name in STREAMS if isinstance(values.get(name), list)), [])
    return [event for one in given for event in (one if isinstance(one, list) else [one])]


def groups(events: list[Event]) -> list[list[Event]]:
    return [events]


def history(events: list[Event]) -> History:
    """Raises RecordError."""
    made = History(began=events[0][1].get("timestamp"))
    for number, event in events:
        if "kind" in event:
            _add_event(made, event, f"events.{number}")
        elif "observation" in event:
            _add_observation(made, event)
        else:
            _add_action(made, event, f"events.{number}")
    return made


def _add_action(made: History, event: dict[str, Any], path: str) -> None:
    kind, given = event.get("action"), event.get("args")
    args = given if isinstance(given, dict) else {}
    if kind == "message":
        if args.get("image_urls") or args.get("file_urls"):
            raise RecordError(f"{path}: attachments are not supported, only text")
        made.add("user" if event.get("source") == "user" else "assistant", str(args.get("content") or ""))
    elif kind == "system":
        made.add("system", str(args.get("content") or ""))
    elif kind == "condensation" and args.get("summary"):
        made.restart(str(args["summary"]))
    elif kind in ANSWERS:
        outputs = args.get("outputs")
        given = (args.get(name) for name in ("message", "final_thought", "thought"))
        words = next((str(one) for one in given if one), "")
        made.add("assistant", words or (str(outputs.get("content", "")) if isinstance(outputs, dict) else ""))
        if str(args.get("task_completed")).lower() == "false":
            made.exclude_last()
    elif kind not in SILENT:
        made.add("assistant", *_call(event, str(kind), args, path))
        if event.get("source") == "user":
            made.exclude_last()


def _call(event: dict[str, Any], kind: str, args: dict[str, Any], path: str) -> tuple[str, list[dict[str, Any]]]:
    """The words and the call of an action: as its model wrote it where that is recorded."""
    meta = event.get("tool_call_metadata") or {}
    choices = (meta.get("model_response") or {}).get("choices") or [{}]
    message = choices[0].get("message") or {}
    asked = next((one for one in message.get("tool_calls") or () if one.get("id") == meta.get("tool_call_id")), None)
    first = not asked or asked is message["tool_calls"][0]
    words = str(message.get("content") or args.get("thought") or "") if first else ""
    own = {name: value for name, value in args.items() if name not in NOT_ARGUMENTS and value is not None}
    function = asked["function"] if asked else {"name": meta.get("function_name") or kind, "arguments": own}
    return words, [call(_identity(meta, event.get("id")), function, path)]


def _identity(meta: dict[str, Any], event: object) -> str:
    return str(meta.get("tool_call_id") or f"event_{event}")


def _add_observation(made: History, event: dict[str, Any]) -> None:
    identity = _identity(event.get("tool_call_metadata") or {}, event.get("cause"))
    extras = event["extras"] if isinstance(event.get("extras"), dict) else {}
    if extras.get("agent_state") == "error":
        made.exclude_last()
    if identity not in made.called:
        return  # of the environment itself, such as the agent's state
    code = (extras.get("metadata") or {}).get("exit_code", extras.get("exit_code", 0))
    failed = event.get("observation") == "error" or event.get("success") is False or extras.get("error") is True
    denied = event.get("observation") == "user_rejected"
    made.add_result(identity, str(event.get("content") or ""), failed or code not in (0, None, STILL_RUNNING), denied)


def _add_event(made: History, event: dict[str, Any], path: str) -> None:
    """An event of the SDK."""
    kind = event["kind"]
    if kind == "SystemPromptEvent":
        made.add(
            "system",
            "\n\n".join(filter(None, (_text(event.get(name)) for name in ("system_prompt", "dynamic_context")))),
        )
    elif kind == "MessageEvent":
        message = event.get("llm_message") or {}
        parts = [*(message.get("content") or ()), *(event.get("extended_content") or ())]
        made.add("user" if event.get("source") == "user" else "assistant", content(_plain(parts), path) or "")
    elif kind == "ActionEvent":
        words = content(_plain(event.get("thought")), path) or ""
        asked = event.get("tool_call") or {}
        if event.get("tool_name") in ANSWERS and isinstance(event.get("action"), dict):
            made.add("assistant", str(event["action"].get("message") or words))
        else:
            made.add("assistant", words, [call(text(event.get("tool_call_id"), f"{path}.tool_call_id"), asked, path)])
    elif kind in ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation"):
        _add_result(made, event, path)
    elif kind in ("Condensation", "CondensationSummaryEvent") and event.get("summary"):
        made.restart(str(event["summary"]))
    elif kind == "ConversationErrorEvent":
        made.exclude_last()


def _add_result(made: History, event: dict[str, Any], path: str) -> None:
    if event.get("tool_name") in ANSWERS:
        return
    seen = event.get("observation")
    if isinstance(seen, dict):
        words = content(_plain(seen.get("content")), path) or ""
        failed = bool(seen.get("is_error")) or seen.get("exit_code") not in (None, 0, STILL_RUNNING)
    else:
        words, failed = str(event.get("error") or event.get("rejection_reason") or ""), True
    denied = event["kind"] == "UserRejectObservation"
    made.add_result(text(event.get("tool_call_id"), f"{path}.tool_call_id"), words, failed, denied)


def _plain(parts: object) -> object:
    """Parts of text without the mark by which a provider keeps them."""
    if not isinstance(parts, list):
        return parts
    return [
        {name: part[name] for name in part if name != "cache_prompt"} if isinstance(part, dict) else part
        for part in parts
    ]


def _text(value: object) -> str:
    return (
        str(value.get("text", ""))
        if isinstance(value, dict)
        else json.dumps(value)
        if isinstance(value, list)
        else str(value or "")
    )
