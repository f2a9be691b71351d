"""Histories of agents as tests need them: lines of session files, made up, and what the import makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.contracts.karma import KarmaRecord
from shared.import_formats.formats import Format
from shared.import_formats.parser import Fault, parse_file
from shared.import_formats.record import ImportDefaults


def imported(file: Path, record_format: Format = Format.AUTO) -> tuple[list[KarmaRecord], list[str]]:
    """The records of a file, and why others of it are refused."""
    defaults = ImportDefaults(file.stem, f"{file.stem}-1", "scribe", "me")
    contents = [line.content for line in parse_file(file, record_format, defaults)]
    records = [
        record for content in contents if content and not isinstance(content, Fault) for record in content.records
    ]
    return records, [content.why for content in contents if isinstance(content, Fault)]


def transcript(record: KarmaRecord) -> dict[str, Any]:
    """A record as one reads it."""
    lines = []
    for message in record.messages:
        calls = "; ".join(f"{call['function']['name']} {call['function']['arguments']}" for call in message.tool_calls)
        who = message.role + (" (not trained)" if message.weight == 0 else "")
        lines.append(f"{who}: {message.content or ''}" + (f" -> {calls}" if calls else ""))
    session = None if record.session == record.id else record.session
    return {"session": session, "feedback": record.feedback, "messages": lines}


def written(folder: Path, events: Iterable[Any], name: str = "session.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    return file


def line(uuid: str, parent: str | None, role: str, content: Any, session: str = "s", **more: Any) -> dict[str, Any]:
    """A line of Claude Code."""
    message = {"role": role, "content": content, **more.pop("message", {})}
    return {"type": role, "uuid": uuid, "parentUuid": parent, "sessionId": session, "message": message, **more}


def used(identity: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": "Bash", "input": given}


def result(identity: str, words: str, failed: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": words, "is_error": failed}


def item(kind: str, **payload: Any) -> dict[str, Any]:
    """A line of Codex."""
    return {"timestamp": "2026-03-02T10:00:00Z", "type": "response_item", "payload": {"type": kind, **payload}}


def said(role: str, words: str) -> dict[str, Any]:
    return item("message", role=role, content=[{"type": "input_text", "text": words}])


def meta(**payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-03-02T10:00:00Z", "type": "session_meta", "payload": payload}


def event(kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-03-02T10:00:00Z", "type": "event_msg", "payload": {"type": kind, **payload}}


ASKED = line("u1", None, "user", "Oil the gate.")
CALLED = line("a1", "u1", "assistant", [used("c1", command="oil")])
REQUEST = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Oil the gate."}]}
