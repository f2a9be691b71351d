"""Karma as a file: JSON Lines of KarmaRecord, read as a stream; what is wrong is told by line, never with content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from deploy.cli.mistakes import Mistake
from shared.contracts.karma import KarmaRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_LINE = 16 * 1024**2
SNIFFED = 8192


@dataclass(frozen=True)
class WrongLine:
    """A line that is no record, and why."""

    file: str
    line: int
    why: str


@dataclass(frozen=True)
class Line:
    """One line that was read: its size in bytes, and the record or what is wrong with it."""

    read_bytes: int
    content: KarmaRecord | WrongLine | None


def check_file(path: Path) -> int:
    """The size in bytes of a file that can be read as lines of text. Raises Mistake."""
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
        raise Mistake(f"{path} is empty: expected one JSON object per line")
    if b"\0" in start:
        raise Mistake(f"{path} is not a text file: expected one JSON object per line, in UTF-8")
    return total


def lines(path: Path) -> Iterator[Line]:
    """Every line of the file, one at a time; a blank one has no content."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(raw) > LONGEST_LINE:
                raise Mistake(
                    f"{path}, line {number} is longer than {LONGEST_LINE // 1024**2} MiB: is this a JSON Lines file?"
                )
            yield Line(len(raw), parse(str(path), number, raw))


def parse(file: str, number: int, raw: bytes) -> KarmaRecord | WrongLine | None:
    text = raw.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return None
    try:
        return KarmaRecord.model_validate_json(text)
    except ValidationError as error:
        return WrongLine(file, number, explain(error))


def explain(error: ValidationError) -> str:
    """What is wrong with a record, without what it says: only names of fields and the rules that they broke."""
    return "; ".join(
        _rule(item["type"], ".".join(map(str, item["loc"])), item["msg"]) for item in error.errors(include_input=False)
    )


def _rule(kind: str, field: str, message: str) -> str:
    if kind == "json_invalid":
        return "not JSON"
    # A rule of the contract's own says no more than its message; pydantic's own messages name no input but its type.
    plain = message.removeprefix("Value error, ")
    if field.endswith("pattern") or kind == "union_tag_invalid":
        plain = "not a valid check"
    return f"{field}: {plain}" if field else plain
