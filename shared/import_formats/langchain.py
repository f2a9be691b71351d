"""Messages of LangChain, in each of the three ways in which they are written, as OpenAI's.

`{"type": "human", "data": {...}}`, `{"type": "human", "content": ...}`, `{"lc": 1, "id": [..., "HumanMessage"], "kwargs": {...}}`.
"""

from __future__ import annotations

from typing import Any

ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}
ROLES |= {"HumanMessage": "user", "AIMessage": "assistant", "SystemMessage": "system", "ToolMessage": "tool"}
ROLES |= {"AIMessageChunk": "assistant", "HumanMessageChunk": "user"}


def as_openai(item: dict[str, Any]) -> dict[str, Any]:
    """The message in OpenAI's form; one that is in another is left as it is."""
    kind: object = item.get("type")
    held: Any = item
    if item.get("lc") == 1 and isinstance(item.get("id"), list) and item["id"]:
        kind, held = item["id"][-1], item.get("kwargs")
    elif isinstance(item.get("data"), dict):
        held = item["data"]
    role = ROLES.get(str(kind))
    if "role" in item or role is None or not isinstance(held, dict):
        return item
    made = {"role": role, "content": held.get("content")}
    made |= {
        name: held[name]
        for name in ("tool_call_id", "name")
        if held.get(name) is not None and role in ("tool", "function")
    }
    made |= _ending(held)
    made |= {"is_error": True} if held.get("status") == "error" else {}
    calls = held.get("tool_calls")
    if isinstance(calls, list) and calls:
        made["tool_calls"] = [{"id": call.get("id"), "function": call} for call in calls if isinstance(call, dict)]
    elif isinstance(more := held.get("additional_kwargs"), dict) and more.get("tool_calls"):
        made["tool_calls"] = more["tool_calls"]
    if isinstance(made["content"], list):  # Anthropic's parts name the calls a second time
        made["content"] = [
            part for part in made["content"] if not isinstance(part, dict) or part.get("type") != "tool_use"
        ]
    return made


def _ending(held: dict[str, Any]) -> dict[str, Any]:
    """How the answer ended, by the provider's word: cut, refused, with calls that cannot be read."""
    found: dict[str, Any] = {}
    for name in ("response_metadata", "additional_kwargs"):
        if isinstance(given := held.get(name), dict):
            found |= {key: given[key] for key in ("finish_reason", "stop_reason", "refusal") if given.get(key)}
    return found | ({"error_calls": held["invalid_tool_calls"]} if held.get("invalid_tool_calls") else {})
