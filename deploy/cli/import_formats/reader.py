"""Read a file as a stream of raw records: the lines of JSON Lines, or the elements of a JSON array.

The array is split here and not by a streaming JSON parser: such a parser (ijson) ends at the first broken element and
knows no line numbers, while an import names every broken element by its line and takes the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydantic_core import from_json

from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST = 16 * 1024**2  # bytes of one record
CHUNK = 1024**2
CHECKED = 8192  # bytes by which text and binary files are distinguished
SNIFFED = 64 * 1024  # bytes by which an array and lines are distinguished
UNENDED = b"["  # takes the place of the missing end of an array
BOM = b"\xef\xbb\xbf"
# Whole strings are skipped; a quote alone opens one that continues in the next chunk.
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{},]', re.DOTALL)


@dataclass(frozen=True)
class RawRecord:
    """The bytes of one record, None where they are too many; its first line, and how many bytes were read for it."""

    line: int
    read_bytes: int
    data: bytes | None


def check_file(path: Path) -> int:
    """Check that the file can be read as text, and return its size in bytes. Raises UserError."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a directory: name its files, e.g. {path}/*.jsonl")
        with path.open("rb") as file:
            start = file.read(CHECKED)
        total = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not start.strip():
        raise UserError(f"{path} is empty: expected one JSON object per line, or a JSON array")
    if not _is_text(start):
        raise UserError(f"{path} is not a text file: expected one JSON object per line, in UTF-8")
    return total


def _is_text(start: bytes) -> bool:
    """A NUL in one broken line does not make a file binary: some line begins as JSON does."""
    return b"\0" not in start or any(line.lstrip().startswith((b"{", b"[")) for line in start.split(b"\n"))


def raw_records(path: Path) -> Iterator[RawRecord]:
    """Read the records of the file one at a time."""
    with path.open("rb") as file:
        start = file.read(SNIFFED)
        file.seek(0)
        yield from _elements(file) if _is_array(start) else _lines(file)


def _is_array(start: bytes) -> bool:
    """Whether a file that starts so is one array. One whose first line is an array and others follow is JSON Lines."""
    text = start.removeprefix(BOM).lstrip()
    if not text.startswith(b"["):
        return False
    first, _, rest = text.partition(b"\n")
    return not (rest.strip() and _is_json(first))


def _is_json(text: bytes) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def _lines(file: BinaryIO) -> Iterator[RawRecord]:
    number = 0
    while data := file.readline(LONGEST + 1):
        number += 1
        if len(data) <= LONGEST:
            yield RawRecord(number, len(data), data)
            continue
        size = len(data)
        while data and not data.endswith(b"\n"):
            data = file.readline(CHUNK)
            size += len(data)
        yield RawRecord(number, size, None)


def _elements(file: BinaryIO) -> Iterator[RawRecord]:
    """Split the array by brackets and commas alone, so that a broken element does not spoil the next."""
    data, line, depth, start, at = b"", 1, 0, 0, 0
    while chunk := file.read(CHUNK):
        data, at, start = data[start:] + chunk, at - start, 0
        for found in TOKEN.finditer(data, at):
            token, at = found[0], found.end()
            if token == b'"':
                at = found.start()
                break
            if token in (b"[", b"{"):
                depth += 1
                if depth == 1:
                    start = at
            elif token in (b"]", b"}"):
                depth -= 1
            if (token == b"," and depth == 1) or depth == 0:
                yield _element(data[start : at - 1], line, at - start)
                line += data.count(b"\n", start, at)
                start = at
            if depth == 0:
                yield from _rest(data[start:] + file.read(CHUNK), line)
                return
        else:
            at = len(data)
        if len(data) - start > LONGEST:
            break
    if len(data) - start > LONGEST:
        yield RawRecord(line, len(data) - start, None)
        return
    yield _element(data[start:], line, len(data) - start)
    if depth == 1:
        yield RawRecord(line + data.count(b"\n", start), 0, UNENDED)


def _element(data: bytes, line: int, size: int) -> RawRecord:
    lead = len(data) - len(data.lstrip())
    return RawRecord(line + data.count(b"\n", 0, lead), size, data)


def _rest(rest: bytes, line: int) -> Iterator[RawRecord]:
    """What follows the array: nothing, or an element that is not a record."""
    if rest.strip():
        yield _element(rest, line, len(rest))
