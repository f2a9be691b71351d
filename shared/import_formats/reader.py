"""Read a file as a stream of raw records: the lines of JSON Lines, or the elements of a JSON array.

The array is split here and not by a streaming JSON parser: such a parser (ijson) ends at the first broken element and
knows no line numbers, while an import names every broken element by its line and takes the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydantic_core import from_json

from shared.contracts.karma import LARGEST_RECORD
from shared.import_formats.source import BOM, CHUNK, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNENDED = b"["  # takes the place of the missing end of an array
# Whole strings are skipped; a quote alone opens one that continues in the next chunk.
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{},]', re.DOTALL)
# Inside a record that is too long, whose strings may be, too.
BYTE = re.compile(rb'\\.|["\[\]{},]', re.DOTALL)


@dataclass(frozen=True)
class RawRecord:
    """The bytes of one record, None where they are too many; its first line, and how many bytes were read for it."""

    line: int
    read_bytes: int
    data: bytes | None


def raw_records(path: Path) -> Iterator[RawRecord]:
    """Read the records of the file one at a time. Raises SourceError where it cannot be read as text."""
    with open_source(path) as (file, start):
        if _is_array(start):
            yield from _Splitter(file, array=True).elements()
        elif _is_pretty(start):
            yield from _Splitter(file, array=False).elements()
        else:
            yield from lines(file)


def _is_array(start: bytes) -> bool:
    """Whether a file that starts so is one array. One whose first line is an array and others follow is JSON Lines."""
    text = start.removeprefix(BOM).lstrip()
    if not text.startswith(b"["):
        return False
    first, _, rest = text.partition(b"\n")
    return not (rest.strip() and _is_json(first))


def _is_pretty(start: bytes) -> bool:
    """Whether a file that starts so holds objects over several lines: its first line opens something and ends there."""
    first, _, rest = start.removeprefix(BOM).lstrip().partition(b"\n")
    return first.startswith(b"{") and first.rstrip().endswith((b"{", b"[", b",")) and bool(rest.strip())


def _is_json(text: bytes) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def lines(file: BinaryIO) -> Iterator[RawRecord]:
    """Read the records of JSON Lines one at a time."""
    number = 0
    while data := file.readline(LARGEST_RECORD + 1):
        number += 1
        if len(data) <= LARGEST_RECORD:
            yield RawRecord(number, len(data), data)
            continue
        size = len(data)
        while data and not data.endswith(b"\n"):
            data = file.readline(CHUNK)
            size += len(data)
        yield RawRecord(number, size, None)


class _Splitter:
    """Splits JSON by brackets and commas alone, so that a broken element does not spoil the next.

    With `array` the elements are those of one array, else they are objects that follow one another.
    """

    def __init__(self, file: BinaryIO, array: bool) -> None:
        self._file, self._array = file, array
        # What was read; how far it was searched; where the element begins.
        self._data, self._at, self._start = b"", 0, 0
        self._line, self._depth, self._closed = 1, 0, False

    def elements(self) -> Iterator[RawRecord]:
        while chunk := self._file.read(CHUNK):
            self._data, self._at, self._start = self._data[self._start :] + chunk, self._at - self._start, 0
            yield from self._found()
            while len(self._data) - self._start > LARGEST_RECORD and not self._closed:
                yield self._skip()
                yield from self._found()
            if self._closed:
                yield from self._rest()
                return
        yield from self._unended()

    def _found(self) -> Iterator[RawRecord]:
        """The elements that end in what was read."""
        while not self._closed and (token := self._next()):
            if self._ends(token):
                yield self._element(self._at - self._array, self._at)

    def _next(self) -> bytes | None:
        """The next token; None where what was read has no further one that is whole."""
        found = TOKEN.search(self._data, self._at)
        if found is None or found[0] == b'"':
            self._at = found.start() if found else len(self._data)
            return None
        self._at = found.end()
        return found[0]

    def _ends(self, token: bytes) -> bool:
        """Whether the element ends with this token."""
        if token in (b"[", b"{"):
            self._depth += 1
            if self._array and self._depth == 1:
                self._start = self._at
        elif token in (b"]", b"}"):
            self._depth -= 1
            self._closed = self._array and self._depth == 0
            return self._depth == 0
        return self._array and token == b"," and self._depth == 1

    def _element(self, end: int, at: int) -> RawRecord:
        data = self._data[self._start : end]
        lead = len(data) - len(data.lstrip())
        fits = len(data) <= LARGEST_RECORD
        found = RawRecord(self._line + data.count(b"\n", 0, lead), at - self._start, data if fits else None)
        self._line += self._data.count(b"\n", self._start, at)
        self._start = at
        return found

    def _skip(self) -> RawRecord:
        """Read to the end of an element that is too long, and keep nothing of it."""
        line, size, in_string = self._line, self._at - self._start, False
        self._line += self._data.count(b"\n", self._start, self._at)
        data = self._data[self._at :]
        while data:
            searched = 0
            for found in BYTE.finditer(data):
                token, searched = found[0], found.end()
                if token == b'"':
                    in_string = not in_string
                elif not in_string and self._ends(token):
                    self._line += data.count(b"\n", 0, searched)
                    self._data, self._at, self._start = data[searched:], 0, 0
                    return RawRecord(line, size + searched, None)
            kept = b"\\" if data.endswith(b"\\") and searched < len(data) else b""  # what it escapes comes next
            size += len(data) - len(kept)
            self._line += data.count(b"\n")
            more = self._file.read(CHUNK)
            data = kept + more if more else b""
        self._data, self._at, self._start = b"", 0, 0
        return RawRecord(line, size, None)

    def _rest(self) -> Iterator[RawRecord]:
        """What follows the array: nothing, or an element that is not a record."""
        self._data += self._file.read(CHUNK)
        if self._data[self._start :].strip():
            yield self._element(len(self._data), len(self._data))

    def _unended(self) -> Iterator[RawRecord]:
        """What is left at the end of the file; in an array the end itself is missing then."""
        if self._array or self._data[self._start :].strip():
            yield self._element(len(self._data), len(self._data))
        if self._array and self._depth == 1:
            yield RawRecord(self._line, 0, UNENDED)
