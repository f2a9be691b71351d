"""Make a karma record of a foreign conversation: its end, its id and session, who vouches for it; check tool calls."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.contracts.karma import KarmaRecord, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.contracts.karma import ChatMessage

SESSION_FIELDS = ("session", "session_id", "conversation_id", "thread_id", "id")
ID_DIGITS = 16
JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


class RecordError(ValueError):
    """A record that cannot be imported; the message names the field and the rule, never the content."""


@dataclass(frozen=True)
class ImportDefaults:
    """What the command sets for every foreign record of a file, as their formats have no field for it."""

    file: str  #: name of the file without its ending
    persona: str | None = None
    consecrated_by: str | None = None
    consecrated_at: datetime | None = None
    session_by: str | None = None  #: the field that names the session


@dataclass(frozen=True)
class Conversation:
    """Messages and tools in OpenAI's format."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)


def to_record(conversation: Conversation, values: dict[str, Any], defaults: ImportDefaults) -> KarmaRecord:
    """Make the record of a conversation. Its id is a digest of its content, so that it is the same at every import."""
    if defaults.persona is None:
        raise RecordError("no persona: records in this format name none; name it with --persona")
    messages = trim_to_answer(conversation.messages)
    content = {"persona": defaults.persona, "messages": messages, "tools": conversation.tools}
    identity = f"import-{_digest(content)}"
    return KarmaRecord.model_validate(
        {
            **content,
            "id": identity,
            "session": session(values, defaults) or identity,
            "source": defaults.file,
            "status": Status.WHITE_TRUTH if defaults.consecrated_by else Status.SPECULATIVE,
            "consecrated_by": defaults.consecrated_by,
            "consecrated_at": defaults.consecrated_at if defaults.consecrated_by else None,
        }
    )


def trim_to_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages up to the last answer: text of the assistant that calls no tool. Raises RecordError."""
    if not messages:
        raise RecordError("messages are empty")
    for end in range(len(messages), 0, -1):
        last = messages[end - 1]
        if last["role"] == "assistant" and (last.get("content") or "").strip() and not last.get("tool_calls"):
            return messages[:end]
    raise RecordError("no assistant answer: no message of the assistant has text without a tool call")


def session(values: dict[str, Any], defaults: ImportDefaults) -> str | None:
    """The session that a record names, if any. Names of one file do not collide with those of another."""
    if defaults.session_by:
        if (named := _name(values.get(defaults.session_by))) is None:
            raise RecordError("the field that --session-by names is missing or not a name")
        return named
    named = next((name for key in SESSION_FIELDS if (name := _name(values.get(key)))), None)
    return f"{defaults.file}/{named}" if named else None


def _name(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def tool_call_fault(messages: Sequence[ChatMessage]) -> str | None:
    """What is wrong with the tool calls of a conversation: every result follows its call, every call has a result."""
    waiting: dict[str, int] = {}
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id is None or message.tool_call_id not in waiting:
                return f"messages.{number}: a tool result without its call"
            del waiting[message.tool_call_id]
            continue
        if waiting:
            return f"messages.{min(waiting.values())}: a tool call without its result"
        if message.tool_calls and message.role != "assistant":
            return f"messages.{number}: only the assistant calls tools"
        for at, call in enumerate(message.tool_calls):
            if fault := _fault(call):
                return f"messages.{number}.tool_calls.{at}: {fault}"
            if call["id"] in waiting:
                return f"messages.{number}.tool_calls.{at}: an id that another call has"
            waiting[call["id"]] = number
    return f"messages.{min(waiting.values())}: a tool call without its result" if waiting else None


def _fault(call: dict[str, Any]) -> str | None:
    function = call.get("function")
    if not isinstance(call.get("id"), str) or not call["id"]:
        return "no id"
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        return "no function name"
    if not isinstance(arguments := function.get("arguments"), str):
        return "arguments are not text: OpenAI's format has them as JSON in a text"
    return None if _is_object(arguments) else "arguments are not a JSON object"


def _is_object(text: str) -> bool:
    try:
        return text == "" or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def text(value: object, path: str) -> str:
    """The value, which must be text. Raises RecordError."""
    if not isinstance(value, str):
        raise RecordError(f"{path}: {json_type(value)}, not text")
    return value


def items(value: object, path: str) -> list[dict[str, Any]]:
    """The value, which must be a list of objects. Raises RecordError."""
    if not isinstance(value, list):
        raise RecordError(f"{path}: {json_type(value)}, not an array")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise RecordError(f"{path}.{number}: {json_type(item)}, not an object")
    return value


def json_type(value: object) -> str:
    """The JSON type of a value, with its article."""
    return JSON_TYPES.get(type(value), "nothing")


def _digest(content: dict[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()[:ID_DIGITS]
