"""Karma as a file: records in any form that is known, read as a stream; what is wrong is told by line, never with content."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json

from deploy.cli.import_formats.formats import Form, read
from deploy.cli.import_formats.reader import BOM, LONGEST, pieces
from deploy.cli.import_formats.record import Wrong, kind_of, unpaired

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.cli.import_formats.record import Given
    from shared.contracts.karma import KarmaRecord

NUL = "NUL character in text: PostgreSQL cannot hold it"
FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")  # a longer name may be anything, even what must not be shown


@dataclass(frozen=True)
class WrongLine:
    """A line that is no record, and why."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.why}"


@dataclass(frozen=True)
class Line:
    """One record that was read: where it begins, its size in bytes, and itself or what is wrong with it."""

    number: int
    read_bytes: int
    content: KarmaRecord | WrongLine | None


def lines(path: Path, form: Form, given: Given) -> Iterator[Line]:
    """Every record of the file, one at a time; a blank line has no content."""
    for piece in pieces(path):
        if piece.raw is None:
            content = WrongLine(str(path), piece.line, f"longer than {LONGEST // 1024**2} MiB")
            yield Line(piece.line, piece.read_bytes, content)
        else:
            yield Line(piece.line, piece.read_bytes, parse(str(path), piece.line, piece.raw, form, given))


def parse(file: str, number: int, raw: bytes, form: Form, given: Given) -> KarmaRecord | WrongLine | None:
    text = raw.removeprefix(BOM).strip()
    if not text:
        return None
    try:
        record = read(read_object(text), form, given)
    except Wrong as wrong:
        return WrongLine(file, number, str(wrong))
    except ValidationError as error:
        return WrongLine(file, number, explain(error))
    if why := unpaired(record.messages) or unstorable(record):
        return WrongLine(file, number, why)
    return record


def explain(error: ValidationError) -> str:
    """What is wrong with a record, without what it says: only names of fields and the rules that they broke."""
    return "; ".join(
        _rule(item["type"], ".".join(map(_field, item["loc"])), item["msg"])
        for item in error.errors(include_input=False)
    )


def _field(name: int | str) -> str:
    return str(name) if isinstance(name, int) or FIELD.fullmatch(name) else "(a field)"


def _rule(kind: str, field: str, message: str) -> str:
    # A rule of the contract's own says no more than its message; pydantic's own messages name no input but its type.
    plain = message.removeprefix("Value error, ")
    if kind == "missing":
        plain = "missing"
    if field.endswith("pattern") or kind == "union_tag_invalid":
        plain = "not a valid check"
    return f"{field}: {plain}" if field else plain


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that `raw` is. Raises Wrong."""
    try:
        # Not json.loads: this one is three times as fast and refuses lone surrogates.
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Wrong(_fault(raw, str(error))) from None
    if not isinstance(value, dict):
        raise Wrong(f"{kind_of(value)}, not a JSON object")
    # The escape may itself be escaped, so the strings are looked at.
    if b"\\u0000" in raw and any("\0" in text for text in _strings(value)):
        raise Wrong(NUL)
    return value


def unstorable(record: KarmaRecord) -> str | None:
    """What JSON of this record PostgreSQL cannot hold: numbers without end; 1e999 reads as one."""
    try:
        for values in (record.tools, *(message.tool_calls for message in record.messages)):
            if values:
                json.dumps(values, allow_nan=False)
    except ValueError:
        return "a number too large to be held"
    return None


def _fault(raw: bytes, said: str) -> str:
    """What the reader's error means; only the beginning of its message is used, which never quotes."""
    if said.startswith("recursion limit"):
        return "nested too deeply"
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1})"
    if "\0" in text:
        return NUL
    if said.startswith("EOF") and text[0] in "{[":
        return "not JSON: truncated"
    if said.startswith("control character"):
        return "not JSON: a control character in text"
    if said.startswith("trailing characters") and text[0] in "{[":
        return "not JSON: something follows the object"
    return _beyond_json(text)


def _beyond_json(text: str) -> str:
    """What Python's looser reader takes and JSON does not have."""
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
