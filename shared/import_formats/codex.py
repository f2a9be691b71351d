"""Session files of Codex, `rollout-*.jsonl`: `{"timestamp", "type", "payload"}`, whose items are those of the Responses API.

Source: https://github.com/openai/codex, codex-rs/protocol (RolloutItem, ResponseItem, EventMsg).
"""

from __future__ import annotations

import json
import re
from typing import Any

from shared.import_formats.history import Event, History
from shared.import_formats.record import RecordError, text
from shared.import_formats.turns import call, content, glue_of

KINDS = ("session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state")
CALLS = ("function_call", "custom_tool_call", "local_shell_call")
KNOWN = ("web_search_call", "image_generation_call", "agent_message", "tool_call", "tool_result")
RESULTS = ("function_call_output", "custom_tool_call_output")
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
#: What changes nothing: thoughts, and what the program notes for itself.
UNREAD = ("reasoning", "ghost_snapshot", "tool_search_call", "tool_search_output", "compaction", "compaction_summary")
#: How the tools of Codex report that a command failed: as text, and as JSON in older versions.
DENIED = re.compile(r"(?:Wall time: .*\n)?(?:exec command rejected|patch rejected|aborted) by user")
EXIT_CODE = re.compile(r"\s*(?:Chunk ID: .*\n)?(?:Wall time: .*\n)?(?:Exit code|Process exited with code):? (-?\d+)")


def begins(value: object) -> bool:
    """Whether a value is a line of such a file."""
    return isinstance(value, dict) and value.get("type") in KINDS and isinstance(value.get("payload"), dict)


def groups(events: list[Event]) -> list[list[Event]]:
    """The lines of each session; a fork holds the lines of the one that it was made from."""
    found: list[list[Event]] = []
    forked: object = None
    for event in events:
        meta = event[1].get("payload")
        if (
            event[1].get("type") == "session_meta"
            and isinstance(meta, dict)
            and not (found and meta.get("id") == forked)
        ):
            forked = meta.get("forked_from_id")
            found.append([])
        if not found:
            found.append([])
        found[-1].append(event)
    return found


def history(events: list[Event]) -> History:
    """Raises RecordError."""
    made = History(session=_session(events[0][1]), began=events[0][1].get("timestamp"))
    for number, line in events:
        payload = line.get("payload")
        if not isinstance(payload, dict):
            raise RecordError(f"line {number}.payload: not an object")
        if line.get("type") == "response_item":
            _add_item(made, payload, f"line {number}")
        elif line.get("type") == "compacted":
            made.restart(_summary(payload, f"line {number}"))
        elif payload.get("type") == "turn_aborted":
            made.exclude_last()
        elif payload.get("type") == "thread_rolled_back":
            _roll_back(made, payload.get("num_turns"))
    if _last_phase(events) == "commentary":  # on what it is about to do
        made.exclude_last()
    return made


def _last_phase(events: list[Event]) -> object:
    payloads = [line["payload"] for _, line in events if line.get("type") == "response_item"]
    said = [payload for payload in payloads if payload.get("type") == "message" and payload.get("role") == "assistant"]
    return said[-1].get("phase") if said else None


def _session(first: dict[str, Any]) -> str | None:
    """That of the first agent, for subagents and forks too."""
    meta = first["payload"] if first.get("type") == "session_meta" else {}
    names = ("forked_from_id", "parent_thread_id", "session_id", "id")
    named = next((meta[name] for name in names if isinstance(meta.get(name), str)), None)
    return f"codex/{named}" if named else None


def _add_item(made: History, item: dict[str, Any], path: str) -> None:
    kind = item.get("type")
    if kind == "message":
        role = ROLES.get(str(item.get("role")))
        if role is None:
            raise RecordError(f"{path}.role: not one of {', '.join(ROLES)}")
        made.add(role, content(item.get("content"), f"{path}.content", glue_of(role)) or "")
    elif kind in CALLS:
        made.add("assistant", calls=[call(text(item.get("call_id"), f"{path}.call_id"), _function(item), path)])
    elif kind in RESULTS:
        words, failed = _result(item.get("output"), path)
        made.add_result(text(item.get("call_id"), f"{path}.call_id"), words, failed, bool(DENIED.match(words)))
    elif kind not in UNREAD:
        # Such as a search of the provider's, of which no result is recorded that the answer could rest on.
        raise RecordError(f"{path}: an item of type {kind if str(kind) in KNOWN else 'unknown'} is not supported")


def _function(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] == "local_shell_call":
        return {"name": "local_shell", "arguments": item.get("action") or {}}
    if item["type"] == "custom_tool_call":
        return {"name": item.get("name"), "arguments": {"input": item.get("input")}}
    return {"name": item.get("name"), "arguments": item.get("arguments")}


def _result(output: object, path: str) -> tuple[str, bool]:
    """What a tool returned, and whether it failed."""
    if isinstance(output, dict) and "content" in output:
        words, failed = _result(output["content"], path)
        return words, failed or output.get("success") is False
    words = content([output] if isinstance(output, dict) else output, f"{path}.output") or ""
    code: object = None
    if found := EXIT_CODE.match(words):
        code = int(found[1])
    elif words.startswith("{"):
        try:
            value = json.loads(words)
        except (ValueError, RecursionError):
            return words, False
        if isinstance(value.get("metadata"), dict):
            code = value["metadata"].get("exit_code")
    return words, code not in (None, 0)


def _summary(payload: dict[str, Any], path: str) -> str:
    """What the model saw after a compaction: a summary, and messages of the user that were kept."""
    kept = payload.get("replacement_history")
    told = [
        content(item.get("content"), path) or ""
        for item in (kept if isinstance(kept, list) else ())
        if isinstance(item, dict) and item.get("type") == "message"
    ]
    return "\n\n".join(filter(None, told)) or str(payload.get("message") or "")


def _roll_back(made: History, turns: object) -> None:
    """The user took the last turns back."""
    asked = [at for at, message in enumerate(made.messages) if message["role"] == "user"]
    if isinstance(turns, int) and turns > 0:
        del made.messages[asked[-turns] if turns <= len(asked) else 0 :]
