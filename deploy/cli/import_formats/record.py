"""A foreign conversation on its way to a karma record: where it ends, what it is called, who vouches for it."""

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
KINDS = {dict: "an object", list: "an array", str: "text", bool: "true or false", int: "a number", float: "a number"}


class Wrong(ValueError):
    """A record that cannot be taken; the message names the field and the rule, never what the record says."""


@dataclass(frozen=True)
class Given:
    """What the command says of every foreign record of a file, as such records do not say it themselves."""

    file: str  #: name of the file without its ending
    persona: str | None = None
    consecrated_by: str | None = None
    consecrated_at: datetime | None = None
    session_by: str | None = None  #: the field that names the session


@dataclass(frozen=True)
class Conversation:
    """Messages and tools in OpenAI's form."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)


def as_record(conversation: Conversation, values: dict[str, Any], given: Given) -> KarmaRecord:
    """The record of a conversation; its id is made of its content, so that it is the same whenever it is read."""
    if given.persona is None:
        raise Wrong("no persona: records of this form name none, so say whose they are with --persona")
    messages = up_to_answer(conversation.messages)
    content = {"persona": given.persona, "messages": messages, "tools": conversation.tools}
    identity = f"import-{_digest(content)}"
    return KarmaRecord.model_validate(
        {
            **content,
            "id": identity,
            "session": session(values, given) or identity,
            "source": given.file,
            "status": Status.WHITE_TRUTH if given.consecrated_by else Status.SPECULATIVE,
            "consecrated_by": given.consecrated_by,
            "consecrated_at": given.consecrated_at if given.consecrated_by else None,
        }
    )


def up_to_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages up to the last answer: words of the assistant that call no tool."""
    if not messages:
        raise Wrong("messages are empty")
    for end in range(len(messages), 0, -1):
        last = messages[end - 1]
        if last["role"] == "assistant" and (last.get("content") or "").strip() and not last.get("tool_calls"):
            return messages[:end]
    raise Wrong("no assistant answer: no message of the assistant has words without a call")


def session(values: dict[str, Any], given: Given) -> str | None:
    """Which conversation a record belongs to, where it says so. Names of one file do not meet those of another."""
    if given.session_by:
        if (named := _name(values.get(given.session_by))) is None:
            raise Wrong("the field that --session-by names is missing or no name")
        return named
    named = next((name for key in SESSION_FIELDS if (name := _name(values.get(key)))), None)
    return f"{given.file}/{named}" if named else None


def _name(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def unpaired(messages: Sequence[ChatMessage]) -> str | None:
    """What is wrong with the calls of a conversation, without what they say; None when nothing is."""
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
        return "arguments are not text: OpenAI's form has them as JSON in a text"
    return None if _is_object(arguments) else "arguments are not a JSON object"


def _is_object(text: str) -> bool:
    try:
        return text == "" or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def text(value: object, place: str) -> str:
    """The value, which must be text."""
    if not isinstance(value, str):
        raise Wrong(f"{place}: {kind_of(value)}, not text")
    return value


def items(value: object, place: str) -> list[dict[str, Any]]:
    """The value, which must be a list of objects."""
    if not isinstance(value, list):
        raise Wrong(f"{place}: {kind_of(value)}, not an array")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise Wrong(f"{place}.{number}: {kind_of(item)}, not an object")
    return value


def kind_of(value: object) -> str:
    return KINDS.get(type(value), "nothing")


def _digest(content: dict[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()[:ID_DIGITS]
