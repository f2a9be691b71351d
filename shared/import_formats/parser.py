"""Parse the raw records of a file; a fault names its line and rule and never quotes the content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json

from shared.contracts.checks import UndecidedError, expect_quick
from shared.contracts.karma import LARGEST_RECORD
from shared.import_formats.formats import (
    FIELD,
    FILES,
    FOREIGN,
    Format,
    Imported,
    detect_file,
    is_record,
    read,
    read_history,
)
from shared.import_formats.reader import raw_records
from shared.import_formats.record import RecordError, json_type, tool_call_fault
from shared.import_formats.source import BOM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from shared.contracts.karma import KarmaRecord
    from shared.import_formats.history import Event
    from shared.import_formats.reader import RawRecord
    from shared.import_formats.record import ImportDefaults

PEEKED = 20  # lines by which a file that holds one history is recognised: some begin with notes of their program
NUL = "NUL character in text: PostgreSQL cannot hold it"


@dataclass(frozen=True)
class Fault:
    """A line that is not a record, and why."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.why}"


@dataclass(frozen=True)
class Line:
    """One record of a file: its first line, its size in bytes, and what was read or its fault. A blank line has neither."""

    number: int
    read_bytes: int
    content: Imported | Fault | None


def parse_file(path: Path, record_format: Format, defaults: ImportDefaults) -> Iterator[Line]:
    """Parse every record of the file, one at a time; a file of one history as a whole."""
    raws = raw_records(path)
    first = list(islice(raws, PEEKED))
    if history := _format_of_file(first, record_format):
        yield from _parse_history(str(path), chain(first, raws), history, defaults)
        return
    for raw in chain(first, raws):
        if raw.data is None:
            yield Line(raw.line, raw.read_bytes, Fault(str(path), raw.line, _too_long()))
        else:
            yield Line(raw.line, raw.read_bytes, parse_line(str(path), raw.line, raw.data, record_format, defaults))


def parse_line(
    file: str, number: int, data: bytes, record_format: Format, defaults: ImportDefaults
) -> Imported | Fault | None:
    """Parse one record."""
    text = _text(data)
    return _checked(file, number, lambda: read(parse_object(text), record_format, defaults)) if text else None


def _too_long() -> str:
    return f"longer than {LARGEST_RECORD // 1024**2} MiB"


def _text(data: bytes) -> bytes:
    return data.removeprefix(BOM).strip()


def _checked(file: str, number: int, read_records: Callable[[], Imported]) -> Imported | Fault:
    """The records, or why there are none."""
    try:
        imported = read_records()
    except RecordError as error:
        return Fault(file, number, str(error))
    except ValidationError as error:
        return Fault(file, number, explain(error))
    except RecursionError:
        return Fault(file, number, "nested too deeply")
    for record in imported.records:
        if why := tool_call_fault(record.messages) or storage_fault(record) or pattern_fault(record):
            return Fault(file, number, why)
    return imported


def _format_of_file(first: list[RawRecord], wanted: Format) -> Format | None:
    """The format of a file that holds one history, by its first lines; None where each line is a record of its own."""
    if wanted in FILES and wanted not in FOREIGN:
        return wanted
    for raw in first:
        value = _json(raw)
        if isinstance(value, dict) and is_record(value):
            return None
        if found := detect_file(value[0] if isinstance(value, list) and value else value):
            return found if wanted in (Format.AUTO, found) else None
    return None


def _json(raw: RawRecord) -> object:
    try:
        return from_json(_text(raw.data or b""))
    except ValueError:
        return None


def _parse_history(
    file: str, raws: Iterable[RawRecord], record_format: Format, defaults: ImportDefaults
) -> Iterator[Line]:
    """Parse the histories of a file: of an agent and its subagents, or one in each line that is an array."""
    events: list[Event] = []
    histories: list[list[Event]] = []
    read_bytes = 0
    for raw in raws:
        read_bytes += raw.read_bytes
        value = _json(raw)
        if isinstance(value, list):
            histories.append([(raw.line, item) for item in value if isinstance(item, dict)])
        elif isinstance(value, dict):
            events.append((raw.line, value))
        elif raw.data is None or _text(raw.data):
            why = _too_long() if raw.data is None else "not JSON"
            yield Line(raw.line, read_bytes, Fault(file, raw.line, f"{why}: the history is not whole without it"))
            return
    histories += FILES[record_format].groups(events) if events else []
    for one in filter(None, histories):
        imported = _checked(file, one[0][0], partial(read_history, one, record_format, defaults))
        yield Line(one[0][0], read_bytes, imported)
        read_bytes = 0


def explain(error: ValidationError) -> str:
    """What is wrong with a record, without its content: only names of fields and the rules that they broke."""
    return "; ".join(
        _rule(item["type"], ".".join(map(_field, item["loc"])), item["msg"])
        for item in error.errors(include_input=False)
    )


def _field(name: int | str) -> str:
    return str(name) if isinstance(name, int) or FIELD.fullmatch(name) else "(a field)"


def _rule(kind: str, field: str, message: str) -> str:
    # Neither the contract's own messages nor pydantic's name any input but its type.
    plain = message.removeprefix("Value error, ")
    if kind == "missing":
        plain = "missing"
    if field.endswith("pattern") or kind == "union_tag_invalid":
        plain = "not a valid check"
    return f"{field}: {plain}" if field else plain


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises RecordError."""
    try:
        # Not json.loads: this one is three times as fast and refuses lone surrogates.
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise RecordError(_syntax_fault(data, str(error))) from None
    if not isinstance(value, dict):
        raise RecordError(f"{json_type(value)}, not a JSON object")
    json.loads(data, object_pairs_hook=_expect_unique)
    return value


def _expect_unique(pairs: list[tuple[str, object]]) -> None:
    """Raise RecordError where an object names a field twice: which of the values is meant cannot be known."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise RecordError("an object that names one field twice")


def storage_fault(record: KarmaRecord) -> str | None:
    """What PostgreSQL cannot store of this record: infinite numbers; 1e999 is read as one."""
    try:
        for values in (record.tools, *(message.tool_calls for message in record.messages)):
            if values:
                json.dumps(values, allow_nan=False)
    except ValueError:
        return "a number too large to be held"
    return None


def pattern_fault(record: KarmaRecord) -> str | None:
    """Why its checks cannot be used: on the record's own answer they take too long."""
    try:
        expect_quick(record.outcome.checks, record.messages[-1].content or "")
    except UndecidedError as error:
        return f"outcome.checks: {error} on the record's own answer: write it without repeats of repeats, such as (a+)+"
    return None


def _syntax_fault(data: bytes, message: str) -> str:
    """What the parser's error means; only the beginning of its message is used, which never quotes."""
    if message.startswith("recursion limit"):
        return "nested too deeply"
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1})"
    if "\0" in text:
        return NUL
    if message.startswith("EOF") and text[0] in "{[":
        return "not JSON: truncated"
    if message.startswith("control character"):
        return "not JSON: a control character in text"
    if message.startswith("trailing characters") and text[0] in "{[":
        return "not JSON: something follows the object"
    return _beyond_json(text)


def _beyond_json(text: str) -> str:
    """What Python's looser parser takes and JSON does not have."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    if any("\ud800" <= letter <= "\udfff" for string in _strings(value) for letter in string):
        return "half of a surrogate pair in text"
    return "not JSON: NaN or Infinity"


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
