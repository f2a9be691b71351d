"""Karma as a file: records in any form that is known, read as a stream; what is wrong is told by line, never with content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from deploy.cli.errors import Mistake
from deploy.cli.import_formats.formats import Form, read
from deploy.cli.import_formats.reader import BOM, LONGEST, pieces
from deploy.cli.import_formats.record import Wrong
from deploy.cli.import_formats.syntax import read_object, unstorable
from deploy.cli.import_formats.tool_calls import unpaired

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.cli.import_formats.record import Given
    from shared.contracts.karma import KarmaRecord

SNIFFED = 8192
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


def check_file(path: Path) -> int:
    """The size in bytes of a file that can be read as text. Raises Mistake."""
    try:
        if path.is_dir():
            raise Mistake(f"{path} is a directory: name its files, e.g. {path}/*.jsonl")
        with path.open("rb") as file:
            start = file.read(SNIFFED)
        total = path.stat().st_size
    except FileNotFoundError:
        raise Mistake(f"{path} does not exist") from None
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error
    if not start.strip():
        raise Mistake(f"{path} is empty: expected one JSON object per line, or a JSON array")
    if not _is_text(start):
        raise Mistake(f"{path} is not a text file: expected one JSON object per line, in UTF-8")
    return total


def _is_text(start: bytes) -> bool:
    """A NUL in one broken line does not make a file binary: some line begins as JSON does."""
    return b"\0" not in start or any(line.lstrip().startswith((b"{", b"[")) for line in start.split(b"\n"))


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
