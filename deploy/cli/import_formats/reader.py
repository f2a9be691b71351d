"""A file as pieces, one per record, read as a stream: the lines of JSON Lines, or the elements of a JSON array."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydantic_core import from_json

from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST = 16 * 1024**2
CHUNK = 1024**2
SNIFFED = 64 * 1024
CHECKED = 8192
UNENDED = b"["  # stands for an array without its end
BOM = b"\xef\xbb\xbf"
# Whole strings are skipped; a quote alone opens one that goes on in the next chunk.
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{},]', re.DOTALL)


def check_file(path: Path) -> int:
    """The size in bytes of a file that can be read as text. Raises UserError."""
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


@dataclass(frozen=True)
class Piece:
    """One record's bytes, None where they are too many; the line it begins on and how far the file was read for it."""

    line: int
    read_bytes: int
    raw: bytes | None


def pieces(path: Path) -> Iterator[Piece]:
    with path.open("rb") as file:
        start = file.read(SNIFFED)
        file.seek(0)
        yield from _elements(file) if is_array(start) else _lines(file)


def is_array(start: bytes) -> bool:
    """Whether a file that starts so is one array. One whose first line is an array and others follow is JSON Lines."""
    text = start.removeprefix(BOM).lstrip()
    if not text.startswith(b"["):
        return False
    first, _, rest = text.partition(b"\n")
    return not (rest.strip() and _is_whole(first))


def _is_whole(text: bytes) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def _lines(file: BinaryIO) -> Iterator[Piece]:
    number = 0
    while raw := file.readline(LONGEST + 1):
        number += 1
        if len(raw) <= LONGEST:
            yield Piece(number, len(raw), raw)
            continue
        size = len(raw)
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(CHUNK)
            size += len(raw)
        yield Piece(number, size, None)


def _elements(file: BinaryIO) -> Iterator[Piece]:
    """Elements are told apart by brackets and commas alone, so a broken one does not spoil the next."""
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
                yield _piece(data[start : at - 1], line, at - start)
                line += data.count(b"\n", start, at)
                start = at
            if depth == 0:
                yield from _after(data[start:] + file.read(CHUNK), line)
                return
        else:
            at = len(data)
        if len(data) - start > LONGEST:
            break
    if len(data) - start > LONGEST:
        yield Piece(line, len(data) - start, None)
        return
    yield _piece(data[start:], line, len(data) - start)
    if depth == 1:
        yield Piece(line + data.count(b"\n", start), 0, UNENDED)


def _piece(raw: bytes, line: int, size: int) -> Piece:
    lead = len(raw) - len(raw.lstrip())
    return Piece(line + raw.count(b"\n", 0, lead), size, raw)


def _after(rest: bytes, line: int) -> Iterator[Piece]:
    """What follows the array: nothing, or a piece that is no record."""
    if rest.strip():
        yield _piece(rest, line, len(rest))
