"""Message histories of pydantic-ai: `[{"kind": "request" | "response", "parts": [...]}, ...]`, alone or as a field of a row.

Source: https://ai.pydantic.dev/message-history (ModelMessagesTypeAdapter). `session.message_history` of LychD is one.
"""

from __future__ import annotations

import json
from typing import Any

from shared.import_formats.history import Event, History
from shared.import_formats.record import RecordError, items, text
from shared.import_formats.turns import call

FIELDS = frozenset({"message_history", "messages", "all_messages", "new_messages", "history"})
ANSWER = "final_result"  # begins the names of the tools by which an agent gives its output
FAILED = ("failed", "retried")
DENIED = "The tool call was denied."  # where an older version recorded no outcome
BROKEN = ("length", "content_filter", "error")
#: What is thought, and what the framework notes for itself.
UNREAD = frozenset({"thinking", "instruction", "instruction-delta", "instruction-baseline", "instruction-digest"})
UNREAD |= {"tool-availability-delta", "capability-load-delta", "model-settings-delta"}


def begins(value: object) -> bool:
    """Whether a value is a message of such a history."""
    return isinstance(value, dict) and value.get("kind") in ("request", "response") and "parts" in value


def matches(values: dict[str, Any]) -> bool:
    return _field(values) is not None


def conversation(values: dict[str, Any]) -> History:
    """Raises RecordError."""
    if (name := _field(values)) is None:
        raise RecordError("no history of pydantic-ai's messages")
    found = history([(number, message) for number, message in enumerate(items(values[name], name))])
    found.session = None  # the row has a name for it
    return found


def groups(events: list[Event]) -> list[list[Event]]:
    return [events]


def history(events: list[Event]) -> History:
    """Raises RecordError."""
    first = events[0][1]
    named = first.get("conversation_id")
    made = History(session=f"pydantic-ai/{named}" if named else None, began=first.get("timestamp"))
    for number, message in events:
        parts = items(message.get("parts"), f"{number}.parts")
        if message.get("kind") == "request":
            _add_request(made, message, parts)
        elif message.get("kind") == "response":
            _add_response(made, message, parts)
        else:
            raise RecordError(f"{number}.kind: neither request nor response")
    return made


def _field(values: dict[str, Any]) -> str | None:
    return next(
        (name for name in FIELDS if isinstance(values.get(name), list) and any(map(begins, values[name][:1]))), None
    )


def _add_request(made: History, message: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    first = not made.messages
    for part in (part for part in parts if part.get("part_kind") == "system-prompt"):
        made.add("system", _words(part.get("content")))
    if first and message.get("instructions"):
        made.add("system", text(message["instructions"], "instructions"))
    for part in parts:
        kind, words = part.get("part_kind"), _words(part.get("content"))
        if kind == "user-prompt":
            made.add("user", words)
        elif kind == "tool-return" or (kind == "retry-prompt" and part.get("tool_name")):
            failed = kind == "retry-prompt" or part.get("outcome") in FAILED or _reports_failure(part.get("content"))
            identity = text(part.get("tool_call_id"), "tool_call_id")
            if not str(part.get("tool_name")).startswith(ANSWER):
                denied = part.get("outcome") == "denied" or words == DENIED
                made.add_result(identity, words, failed, denied)
            elif _answer(made, identity) and failed:
                made.exclude_last()
                made.add("user", words)
        elif kind in ("retry-prompt", "retry-feedback"):
            made.exclude_last()
            made.add("user", words)
        elif kind not in ("system-prompt", *UNREAD):
            raise RecordError(f"part_kind: {kind} is not supported")


def _reports_failure(content: object) -> bool:
    """Whether a tool returned a failure as its result, in a field that means it."""
    return isinstance(content, dict) and any(content.get(name) for name in ("error", "is_error", "isError"))


def _answer(made: History, identity: str) -> bool:
    """Make the call by which an agent gave its output the answer that it is; what it called beside it was left."""
    last = next((message for message in reversed(made.messages) if message["role"] != "tool"), {})
    output = next((one for one in last.get("tool_calls", ()) if one["id"] == identity), None)
    if output is None:
        return False
    del made.messages[made.messages.index(last) + 1 :]
    made.unused |= {one["id"] for one in last.pop("tool_calls")}
    last["content"] = output["function"]["arguments"]
    return True


def _add_response(made: History, message: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    for part in parts:
        kind = part.get("part_kind")
        if kind == "text":
            made.add("assistant", _words(part.get("content")))
        elif kind in ("tool-call", "builtin-tool-call"):
            function = {"name": part.get("tool_name"), "arguments": part.get("args")}
            made.add("assistant", calls=[call(text(part.get("tool_call_id"), "tool_call_id"), function, "tool-call")])
        elif kind == "builtin-tool-return":
            made.add_result(text(part.get("tool_call_id"), "tool_call_id"), _words(part.get("content")))
        elif kind == "compaction" and part.get("content"):
            made.restart(_words(part["content"]))
        elif kind not in UNREAD:
            raise RecordError(f"part_kind: {kind} is not supported")
    if message.get("finish_reason") in BROKEN or message.get("state", "complete") != "complete":
        made.exclude_last()


def _words(value: object) -> str:
    """Text, text in pieces, or what a tool returned. Raises RecordError for attachments."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and any(isinstance(one, dict) and "kind" in one for one in value):
        pieces = [one for one in value if not isinstance(one, dict) or one.get("kind") != "cache-point"]
        if any(isinstance(one, dict) and one.get("kind") != "text-content" for one in pieces):
            raise RecordError("content: attachments are not supported, only text")
        return "\n".join(one if isinstance(one, str) else text(one.get("content"), "content") for one in pieces)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)
