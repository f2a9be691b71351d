"""Make karma records of a foreign conversation: its end, its id and session, who vouches for it; check tool calls."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.contracts.karma import KarmaRecord, Status, call_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.karma import ChatMessage

SESSION_FIELDS = ("session", "session_id", "conversation_id", "thread_id", "id")
TIME_FIELDS = ("created_at", "timestamp", "create_time", "created", "time", "date")
MILLISECONDS = 10**11  # a number of seconds that is beyond the year 5000
LEAST_SECONDS = 10**8  # less is no time of our days, but a duration
DATE_DIGITS = 8
ID_DIGITS = 16
THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
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

    file: str  #: name of the file without its endings
    sessions: str  #: begins the name of every session of this file, and of no other
    persona: str | None = None
    consecrated_by: str | None = None
    consecrated_at: datetime | None = None
    session_by: str | None = None  #: the field that names the session


@dataclass(frozen=True)
class Conversation:
    """Messages and tools in OpenAI's format; `rejected` is the same conversation with a worse answer."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] | None = None
    read: frozenset[str] | None = (
        None  #: the fields of the record that it was made of; default: all that its format has
    )
    session: str | None = None  #: its name where that is the same in every file
    began: str | None = None
    feedback: str | None = None
    may_end_in_call: bool = False  #: its form is that of an example: a call at its end is what is to be learned


def to_records(
    conversation: Conversation, values: dict[str, Any], feedback: str | None, defaults: ImportDefaults
) -> tuple[KarmaRecord, ...]:
    """Make the record of a conversation, before it that of the answer which it corrects. Raises RecordError.

    An id is a digest of the content, so that it is the same at every import.
    """
    if defaults.persona is None:
        raise RecordError("no persona: records in this format name none; name it with --persona")
    common: dict[str, Any] = {
        "persona": defaults.persona,
        "tools": conversation.tools,
        "source": defaults.file,
        "created_at": moment({TIME_FIELDS[0]: conversation.began} if conversation.began else values),
    }
    worse = _rejected(conversation, common)
    messages = trim_to_answer(conversation.messages, conversation.may_end_in_call)
    chosen = {**common, "messages": messages, **({"parent": worse["id"]} if worse else {})}
    chosen |= {"id": _identity(chosen), "feedback": feedback or conversation.feedback}
    if defaults.consecrated_by:
        chosen |= {
            "status": Status.WHITE_TRUTH,
            "consecrated_by": defaults.consecrated_by,
            "consecrated_at": defaults.consecrated_at,
        }
    own = None if defaults.session_by else conversation.session
    chosen["session"] = own or session(values, defaults) or chosen["id"]
    records = [worse | {"session": chosen["session"]}, chosen] if worse else [chosen]
    return tuple(map(KarmaRecord.model_validate, records))


def _rejected(conversation: Conversation, common: dict[str, Any]) -> dict[str, Any] | None:
    """The record of the worse answer. It is never consecrated: it is there for the pair that it makes with its correction."""
    if conversation.rejected is None:
        return None
    worse = {**common, "messages": trim_to_answer(conversation.rejected, conversation.may_end_in_call)}
    return worse | {"id": _identity(worse), "feedback": "down"}


def trim_to_answer(messages: list[dict[str, Any]], may_end_in_call: bool) -> list[dict[str, Any]]:
    """The messages up to the last one that the assistant wrote and that is to be trained, which must be an answer.

    It may be a call where that is the very end of an example. Raises RecordError where it is another: the answer before it
    is not what the conversation led to.
    """
    if not messages:
        raise RecordError("messages are empty")
    for end in range(len(messages), 0, -1):
        last = messages[end - 1]
        if last["role"] != "assistant" or last.get("weight") == 0:
            continue
        if last.get("tool_calls"):
            if may_end_in_call and end == len(messages):
                return messages
            raise RecordError("no assistant answer: the conversation ends in a tool call")
        if not THOUGHT.sub("", last.get("content") or "").strip():
            raise RecordError("no assistant answer: the last message of the assistant is empty")
        return messages[:end]
    if any(message["role"] == "assistant" for message in messages):
        raise RecordError("no assistant answer: every answer has the weight 0 or a thumb down")
    raise RecordError("no assistant answer: no message of the assistant")


def moment(values: dict[str, Any]) -> datetime | None:
    """When the conversation took place, as ISO 8601 or in seconds or milliseconds; None where no field is a time."""
    for name in TIME_FIELDS:
        value = values.get(name)
        if isinstance(value, str) and (not value.isdecimal() or len(value) == DATE_DIGITS):
            with suppress(ValueError):
                found = datetime.fromisoformat(value.strip())
                return found if found.tzinfo else found.replace(tzinfo=UTC)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError, OSError):
                seconds = float(value)
                if seconds > LEAST_SECONDS:
                    return datetime.fromtimestamp(seconds / 1000 if seconds > MILLISECONDS else seconds, UTC)
    return None


def session(values: dict[str, Any], defaults: ImportDefaults) -> str | None:
    """The session that a record names, if any. Names of one file do not collide with those of another."""
    if defaults.session_by:
        if (named := _name(values.get(defaults.session_by))) is None:
            raise RecordError("the field that --session-by names is missing or not a name")
        return named
    named = next((name for key in SESSION_FIELDS if (name := _name(values.get(key)))), None)
    return f"{defaults.sessions}/{named}" if named else None


def _name(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def tool_call_fault(messages: Sequence[ChatMessage]) -> str | None:
    """What is wrong with the tool calls of a conversation: every result follows its call, every call but the last has one."""
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
            if fault := "no id" if not isinstance(call.get("id"), str) or not call["id"] else call_fault(call):
                return f"messages.{number}.tool_calls.{at}: {fault}"
            if call["id"] in waiting:
                return f"messages.{number}.tool_calls.{at}: an id that another call has"
            waiting[call["id"]] = number
    if waiting and messages[-1].role == "tool":
        return f"messages.{min(waiting.values())}: a tool call without its result"
    return None


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


def _identity(record: dict[str, Any]) -> str:
    content = {name: record[name] for name in ("persona", "messages", "tools", "parent") if name in record}
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"import-{hashlib.sha256(plain.encode()).hexdigest()[:ID_DIGITS]}"
