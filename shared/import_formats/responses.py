"""OpenAI's Responses API: `{"instructions", "input": [items], "output": [items], "tools"}`.

Source: https://platform.openai.com/docs/api-reference/responses/object. What the model thought (`reasoning`) is left out.
"""

from __future__ import annotations

from typing import Any

from shared.import_formats.record import Conversation, RecordError, items, text
from shared.import_formats.turns import Message, call, content, glue_of, mark, role_of, system, tools_of

FIELDS = frozenset({"instructions", "input", "output", "tools", "status"})
KINDS = ("message", "function_call", "function_call_output", "reasoning")


def matches(values: dict[str, Any]) -> bool:
    return "instruction" not in values and "input" in values and isinstance(values.get("output"), list)


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if not matches(values):
        raise RecordError("no input with the items of its output")
    if values.get("status") not in (None, "completed"):
        raise RecordError("status: the response was not completed, so that its answer is cut")
    given = values["input"]
    asked: list[Message] = [{"role": "user", "content": given}] if isinstance(given, str) else _items(given, "input")
    if not (answered := _items(values["output"], "output")):
        raise RecordError("output: neither a message nor a call")
    messages = system(values.get("instructions"), _joined([*asked, *answered]))
    return Conversation(messages, tools_of(values.get("tools")))


def _items(value: object, name: str) -> list[Message]:
    read = (_item(item, f"{name}.{number}") for number, item in enumerate(items(value, name)))
    return [message for message in read if message]


def _item(item: dict[str, Any], path: str) -> Message | None:
    kind = item.get("type", "message")
    if kind == "reasoning":
        return None
    if kind == "function_call":
        made: Message = {"role": "assistant", "tool_calls": [call(item.get("call_id"), item, path)]}
        return mark(made, item, path)
    if kind == "function_call_output":
        made = {"role": "tool", "tool_call_id": text(item.get("call_id"), f"{path}.call_id")}
        return made | {"content": content(item.get("output"), f"{path}.output") or ""}
    if kind != "message":
        raise RecordError(f"{path}.type: not one of {', '.join(KINDS)}")
    role = role_of(item, path)
    words = content(item.get("content"), f"{path}.content", glue_of(role))
    return mark({"role": role, "content": words or ""}, item, path)


def _joined(messages: list[Message]) -> list[Message]:
    """Calls that follow one another are one message: each is an item of its own there."""
    made: list[Message] = []
    for message in messages:
        if message.get("tool_calls") and made and made[-1]["role"] == "assistant":
            before = made.pop()
            message = before | {"tool_calls": [*before.get("tool_calls", []), *message["tool_calls"]]}
        made.append(message)
    return made
