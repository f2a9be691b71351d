"""The formats that can be imported: Soulforge's own here, foreign ones in a module each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from shared.contracts.karma import KarmaRecord
from shared.import_formats import (
    alpaca,
    claude_code,
    codex,
    completion,
    dataset,
    gemini,
    open_webui,
    openai,
    openhands,
    preference,
    pydantic_ai,
    responses,
    sharegpt,
    turns,
)
from shared.import_formats.fields import expect_harmless, expect_harmless_notes
from shared.import_formats.history import History, cut
from shared.import_formats.record import SESSION_FIELDS, TIME_FIELDS, RecordError, items, to_records

if TYPE_CHECKING:
    from shared.import_formats.history import Event
    from shared.import_formats.record import ImportDefaults


class Format(StrEnum):
    """The format of a record; `auto` detects that of every record by itself."""

    AUTO = "auto"
    KARMA = "karma"
    PREFERENCE = "preference"
    OPENAI = "openai"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"
    RESPONSES = "responses"
    GEMINI = "gemini"
    COMPLETION = "completion"
    DATASET = "dataset"
    OPEN_WEBUI = "open-webui"
    PYDANTIC_AI = "pydantic-ai"
    OPENHANDS = "openhands"
    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    FINE_TUNING = "fine-tuning"  # OpenAI's files: of chats, or of preferences


OWN_FIELDS = frozenset(("persona", "outcome", "consecrated_by", "purposes"))  # which no other format has
FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")  # a longer name may be anything, even what must not be shown
LONGEST_NAME = 200  # what an index of the karma table holds safely
# In the order in which a record is tried: what names a preference pair, or is one of an agent's, has messages too.
FOREIGN = {
    Format.PYDANTIC_AI: pydantic_ai,
    Format.OPENHANDS: openhands,
    Format.OPEN_WEBUI: open_webui,
    Format.DATASET: dataset,
    Format.PREFERENCE: preference,
    Format.OPENAI: openai,
    Format.SHAREGPT: sharegpt,
    Format.ALPACA: alpaca,
    Format.RESPONSES: responses,
    Format.GEMINI: gemini,
    Format.COMPLETION: completion,
}
# Files that hold one history, an event a line or an element of the array.
FILES = {
    Format.CLAUDE_CODE: claude_code,
    Format.CODEX: codex,
    Format.OPENHANDS: openhands,
    Format.PYDANTIC_AI: pydantic_ai,
}


@dataclass(frozen=True)
class Imported:
    """The records of a line, one that is corrected before its correction, and the names of fields that were not read."""

    records: tuple[KarmaRecord, ...]
    unread: frozenset[str] = frozenset()


def read(values: dict[str, Any], record_format: Format, defaults: ImportDefaults) -> Imported:
    """Read a record in this format. Raises RecordError, and pydantic's ValidationError for own records."""
    if record_format is Format.AUTO:
        record_format = detect(values)
    if record_format is Format.FINE_TUNING:
        record_format = Format.PREFERENCE if preference.matches(values) else Format.OPENAI
    if record_format is Format.KARMA:
        return Imported((_own(values),))
    module = FOREIGN[record_format]
    made = module.conversation(values)
    feedback = _feedback(values)
    conversations = cut(made) if isinstance(made, History) else [made]
    of_form = module.FIELDS if conversations[0].read is None else conversations[0].read
    known = {*of_form, *SESSION_FIELDS, *TIME_FIELDS, *turns.THUMBS, *turns.WEIGHTS, defaults.session_by}
    if any(
        message["role"] == "user" and message.get("content") == values.get("prompt")
        for message in conversations[0].messages
    ):
        known.add("prompt")  # which some give a second time, beside the messages
    expect_harmless({name: value for name, value in values.items() if name not in known})
    expect_harmless_notes(values)
    records = [record for one in conversations for record in to_records(one, values, feedback, defaults)]
    return Imported(tuple(records), _unread(values, known))


def read_history(events: list[Event], record_format: Format, defaults: ImportDefaults) -> Imported:
    """Read the history of one agent. Raises RecordError, and pydantic's ValidationError."""
    made = cut(FILES[record_format].history(events))
    named = {"session": events[0][0]}  # the line, where the history names none
    return Imported(tuple(record for one in made for record in to_records(one, named, None, defaults)))


def detect_file(value: object) -> Format | None:
    """The format of a file that holds one history, by one of its lines or elements; None where it is of no such file."""
    return next((record_format for record_format, module in FILES.items() if module.begins(value)), None)


def detect(values: dict[str, Any]) -> Format:
    """Detect the format by the names of the fields. Raises RecordError where they fit none."""
    if not OWN_FIELDS.isdisjoint(values):
        return Format.KARMA
    for record_format, module in FOREIGN.items():
        if module.matches(values):
            return record_format
    names = ", ".join(name for name in values if FIELD.fullmatch(name))[:120]
    raise RecordError(
        f"no messages, conversations, instruction or prompt: not in a known format{f' (it has {names})' if names else ''}"
    )


def is_record(values: dict[str, Any]) -> bool:
    """Whether an object is a record by itself."""
    return not OWN_FIELDS.isdisjoint(values) or any(module.matches(values) for module in FOREIGN.values())


def _feedback(values: dict[str, Any]) -> str | None:
    """The thumb of the whole conversation. Raises RecordError where its owner excludes it from training."""
    if turns.weight_of(values, "") == 0:
        raise RecordError("the record has the weight 0: its owner excludes it from training")
    return turns.thumb_of(values, "")


def _unread(values: dict[str, Any], known: set[str | None]) -> frozenset[str]:
    """The names of fields that were not read, of the record and of its turns."""
    of_turns = {
        name
        for value in values.values()
        if isinstance(value, list)
        for turn in value
        if isinstance(turn, dict) and any(role in turn for role in turns.ROLE_NAMES)
        for name in turn.keys() - turns.FIELDS - {"parts"}
    }
    return frozenset((values.keys() - known) | of_turns)


def _own(values: dict[str, Any]) -> KarmaRecord:
    """Raises RecordError, and pydantic's ValidationError."""
    if "messages" not in values:
        raise RecordError("no messages")
    if not items(values["messages"], "messages"):
        raise RecordError("messages are empty")
    record = KarmaRecord.model_validate(values)
    if record.parent is not None and len(record.parent) > LONGEST_NAME:
        raise RecordError(f"parent: longer than {LONGEST_NAME} characters")
    return record
