"""Session files of Claude Code: JSON Lines, each line with the uuid of the one that it follows; subagents beside the agent.

There is no public specification. What a session led to is the path from its last line back to its first; other branches
were taken back by the user. Parallel calls are lines of one message, whose results hang off that path.
"""

from __future__ import annotations

from typing import Any

from shared.import_formats.history import Event, History
from shared.import_formats.record import RecordError, items, text
from shared.import_formats.turns import call, content, glue_of

SPOKEN = ("user", "assistant")
SUMMARY = "summary"  # of a session; where it is a line of the path, of what was compacted
PROVIDER_FAILED = "API Error"
INTERRUPTION = "[Request interrupted by user"
DENIAL = "The user doesn't want to"  # … proceed with this tool use, or take this action right now
BROKEN = ("max_tokens", "refusal", "model_context_window_exceeded")
WARM_UP = "Warmup"
SYNTHETIC = "<synthetic>"  # the model of what the program itself says: that its provider failed


def begins(value: object) -> bool:
    """Whether a value is a line of such a file."""
    if not isinstance(value, dict) or "uuid" not in value:
        return False
    return "sessionId" in value or (value.get("type") in SPOKEN and isinstance(value.get("message"), dict))


def groups(events: list[Event]) -> list[list[Event]]:
    """The lines of each agent and subagent, in the order of the file."""
    lines = {line["uuid"]: line for _, line in events if isinstance(line.get("uuid"), str)}
    found: dict[tuple[object, object], list[Event]] = {}
    session: object = None
    for number, line in events:
        session = line.get("sessionId", session)
        if isinstance(line.get("uuid"), str):
            agent = (line.get("agentId") or _root(line, lines)) if line.get("isSidechain") else None
            found.setdefault((session, agent), []).append((number, line))
    return [group for group in found.values() if _is_talk([line for _, line in group if line.get("type") in SPOKEN])]


def history(events: list[Event]) -> History:
    """Raises RecordError."""
    first = events[0][1]
    named = (
        first["forkedFrom"].get("sessionId") if isinstance(first.get("forkedFrom"), dict) else first.get("sessionId")
    )
    made = History(session=f"claude-code/{named}" if named else None, began=first.get("timestamp"))
    retracted = {uuid for _, line in events for uuid in (line.get("retractedMessageUuids") or ())}
    for number, line in _path(events):
        if line["uuid"] not in retracted:
            _add(made, line, f"line {number}")
    return made


def _is_talk(lines: list[dict[str, Any]]) -> bool:
    """Whether these lines are more than what the program says to warm up a cache."""
    first = lines[0].get("message") if lines else None
    return bool(lines) and not (
        isinstance(first, dict) and first.get("content") == WARM_UP and lines[0].get("isSidechain")
    )


def _root(line: dict[str, Any], lines: dict[str, dict[str, Any]]) -> object:
    seen = set()
    while (above := lines.get(line.get("parentUuid") or "")) and above["uuid"] not in seen and above.get("isSidechain"):
        seen.add(above["uuid"])
        line = above
    return line["uuid"]


def _path(events: list[Event]) -> list[Event]:
    """The lines from the first to the last, without branches; with the other lines of its messages, and their results."""
    lines = {line["uuid"]: line for _, line in events}
    if not any(line.get("parentUuid") in lines for line in lines.values()):
        return events  # made by something that links no lines
    line: dict[str, Any] | None = next(line for _, line in reversed(events) if line.get("type") in SPOKEN)
    path: set[str] = set()
    while line and line["uuid"] not in path:
        path.add(line["uuid"])
        above = line.get("parentUuid") or line.get("logicalParentUuid") or ""
        if above and above not in lines and not line.get("isSidechain"):
            raise RecordError("a line follows one that is not in the file")
        line = lines.get(above)
    messages = {_message_id(lines[uuid]) for uuid in path} - {None}
    path |= {uuid for uuid, line in lines.items() if _message_id(line) in messages}
    called = {part.get("id") for uuid in path for part in _parts(lines[uuid]) if part.get("type") == "tool_use"}
    path |= {uuid for uuid, line in lines.items() if any(part.get("tool_use_id") in called for part in _parts(line))}
    return [event for event in events if event[1]["uuid"] in path and lines[event[1]["uuid"]] is event[1]]


def _message_id(line: dict[str, Any]) -> str | None:
    message = line.get("message")
    return message.get("id") if line.get("type") == "assistant" and isinstance(message, dict) else None


def _parts(line: dict[str, Any]) -> list[dict[str, Any]]:
    message = line.get("message")
    parts = message.get("content") if isinstance(message, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _add(made: History, line: dict[str, Any], path: str) -> None:
    if line.get("type") == "attachment":
        _add_attachment(made, line.get("attachment"), path)
    message = line.get("message")
    if line.get("type") not in (*SPOKEN, SUMMARY) or (line.get("type") == SUMMARY and not message):
        return
    if not isinstance(message, dict):
        raise RecordError(f"{path}.message: not an object")
    given = message.get("content")
    parts = [{"type": "text", "text": given}] if isinstance(given, str) else items(given, f"{path}.message.content")
    for part in parts:
        if part.get("type") == "tool_result":
            words = content(part.get("content"), f"{path}.tool_result") or ""
            failed = bool(part.get("is_error")) or _was_interrupted(line)
            made.add_result(str(part.get("tool_use_id")), words, failed, failed and words.startswith(DENIAL))
    used = ("tool_result", "tool_use", "fallback")
    words = (
        content(
            [part for part in parts if part.get("type") not in used],
            path,
            glue_of("assistant" if line["type"] == "assistant" else "user"),
        )
        or ""
    )
    if line["type"] == "assistant":
        calls = [
            call(text(part.get("id"), f"{path}.id"), part, path) for part in parts if part.get("type") == "tool_use"
        ]
        _add_answer(made, line, message, words, calls)
    elif line.get("isCompactSummary") or line["type"] == SUMMARY:
        made.restart(words)
    else:
        if words.startswith(INTERRUPTION):
            made.exclude_last()
        made.add("user", words)


def _was_interrupted(line: dict[str, Any]) -> bool:
    used = line.get("toolUseResult")
    return isinstance(used, dict) and used.get("interrupted") is True


def _add_answer(
    made: History, line: dict[str, Any], message: dict[str, Any], words: str, calls: list[dict[str, Any]]
) -> None:
    made.add("assistant", words, calls)
    failed = (
        line.get("isApiErrorMessage")
        or words.startswith(PROVIDER_FAILED)
        or line.get("isAbortedMidStream")
        or message.get("model") == SYNTHETIC
    )
    if failed or message.get("stop_reason") in BROKEN:
        made.exclude_last()


def _add_attachment(made: History, attached: object, path: str) -> None:
    """What the user typed while the agent worked, and the files that were named; others are reminders of the program."""
    if not isinstance(attached, dict):
        return
    if attached.get("type") == "queued_command":
        made.add("user", content(attached.get("prompt"), path) or "")
    elif attached.get("type") == "file" and isinstance(given := attached.get("content"), dict):
        file = given.get("file")
        if given.get("type") != "text" or not isinstance(file, dict):
            raise RecordError(f"{path}: attachments are not supported, only text")
        made.add("user", f"{attached.get('filename')}:\n{file.get('content', '')}")
