"""`{"messages": [...], "tools": [...]}`: OpenAI's chat format, its older spelling with `functions`, and Anthropic's Messages.

Sources: https://platform.openai.com/docs/guides/supervised-fine-tuning (formatting your data),
https://docs.anthropic.com/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.import_formats.record import Conversation, RecordError, items, json_type, text
from shared.import_formats.turns import (
    Message,
    append,
    call,
    calls_of,
    content,
    glue_of,
    mark,
    role_of,
    system,
    text_of,
    tools_of,
    weight_of,
)

FIELDS = frozenset({"messages", "tools", "functions", "system", "parallel_tool_calls", "tool_choice", "function_call"})
RESULT, ERROR = "tool_result", "is_error"  # of Anthropic's parts
CALLS = ("tool_use", "tool_call")  # Anthropic's parts, and LLaMA-Factory's


def matches(values: dict[str, Any]) -> bool:
    return "messages" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if "messages" not in values:
        raise RecordError("no messages")
    made = system(values.get("system"), messages(values["messages"], "messages"))
    return Conversation(made, tools(values), may_end_in_call=True)


def messages(value: object, path: str) -> list[Message]:
    """Read a list of messages. Calls and results without ids are joined by their names, then in their order. Raises RecordError.

    A call whose result is marked as an error is a dead end: it is context and not trained.
    """
    made: list[Message] = []
    open_calls: dict[str, str] = {}  # id -> name
    for number, item in enumerate(items(value, path)):
        here = f"{path}.{number}"
        failed = _failed(item)
        item = {name: one for name, one in item.items() if name != ERROR}
        for one in _read(item, here, number):
            failed = bool(one.pop(ERROR, failed))
            for at, made_call in enumerate(one.get("tool_calls", ())):
                made_call["id"] = made_call["id"] or f"call_{number}_{at}"
                open_calls[made_call["id"]] = made_call["function"]["name"]
            if one["role"] == "tool" and open_calls:
                identity = one.setdefault("tool_call_id", _called(open_calls, item.get("name")))
                open_calls.pop(identity, None)
                if failed:
                    exclude_caller(made, identity)
            append(mark(one, item, here), made)
    return made


def _called(open_calls: dict[str, str], name: object) -> str:
    """The first open call of that name, else the first."""
    return next((identity for identity, called in open_calls.items() if called == name), next(iter(open_calls)))


def exclude_caller(messages: list[Message], identity: str) -> None:
    for message in messages:
        if any(one["id"] == identity for one in message.get("tool_calls", ())):
            message.setdefault("weight", 0)


def _failed(item: dict[str, Any]) -> bool:
    return item.get(ERROR) not in (None, False, 0, "false", "False")


def tools(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Read tools in either spelling. Raises RecordError."""
    name = "tools" if values.get("tools") else "functions"
    return tools_of(values.get(name), name)


def _read(item: dict[str, Any], path: str, number: int) -> Iterator[Message]:
    """The messages of one item: in Anthropic's form the results of tools are parts of what the user says."""
    role = role_of(item, path)
    if role == "call":
        yield {"role": "assistant", "tool_calls": calls_of(text_of(item, path) or "", path, number)}
        return
    parts = item["content"] if isinstance(item.get("content"), list) else []
    used = [(part, f"{path}.content.{at}") for at, part in enumerate(parts) if isinstance(part, dict)]
    results = [(part, where) for part, where in used if part.get("type") == RESULT]
    calls = [one for at, (part, where) in enumerate(used) for one in _part_calls(part, where, number * len(used) + at)]
    yield from (_result(part, where) for part, where in results)
    if results or calls:
        rest = [part for part in parts if not isinstance(part, dict) or part.get("type") not in (RESULT, *CALLS)]
        value = content(rest, f"{path}.content", glue_of(role))
        if results and not calls and value is None:
            return
    else:
        value = text_of(item, path)
    yield _message(item, role, value, calls, path)


def _part_calls(part: dict[str, Any], path: str, number: int) -> list[dict[str, Any]]:
    """The calls of one part, in Anthropic's form or in LLaMA-Factory's, where they are JSON in a text."""
    if part.get("type") == CALLS[0]:
        return [call(part.get("id"), part, path)]
    return calls_of(text(part.get("value"), f"{path}.value"), path, number) if part.get("type") == CALLS[1] else []


def _message(item: dict[str, Any], role: str, value: str | None, calls: list[dict[str, Any]], path: str) -> Message:
    made: Message = {"role": role}
    if value is not None:
        made["content"] = value
    elif role != "assistant":
        raise RecordError(f"{path}.content: missing")
    if item.get("name") is not None and item.get("role") != "function":
        made["name"] = text(item["name"], f"{path}.name")
    if item.get("tool_call_id") is not None:
        made["tool_call_id"] = text(item["tool_call_id"], f"{path}.tool_call_id")
    given = items(item.get("tool_calls") or [], f"{path}.tool_calls")
    calls = [*calls, *(_call(one, f"{path}.tool_calls.{at}") for at, one in enumerate(given))]
    if isinstance(old := item.get("function_call"), dict):
        calls.append(call(None, old, f"{path}.function_call"))
    return made | {"tool_calls": calls} if calls else made


def _call(item: dict[str, Any], path: str) -> dict[str, Any]:
    function = item.get("function")
    if not isinstance(function, dict):
        raise RecordError(f"{path}.function: {json_type(function)}, not an object")
    if weight_of(item, path) == 0:
        raise RecordError(f"{path}: a call that is not to be trained; give it a message of its own, with the weight 0")
    return call(item.get("id"), function, f"{path}.function")


def _result(part: dict[str, Any], path: str) -> Message:
    value = content(part.get("content"), f"{path}.content")
    return {
        "role": "tool",
        "tool_call_id": text(part.get("tool_use_id"), f"{path}.tool_use_id"),
        "content": value or "",
        ERROR: _failed(part),
    }
