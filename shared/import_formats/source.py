"""A file as a stream of UTF-8 bytes: plain, in gzip, in UTF-16, with the line ends of an old Mac, parquet, or standard input."""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import subprocess
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from shared.config.settings import PROJECT

STDIN = Path("-")
SNIFFED = 64 * 1024  # bytes by which a file is recognised
CHUNK = 1024**2
NULS_OF = 200  # bytes of which a third are NUL in UTF-16 without its mark
BOM = codecs.BOM_UTF8
PACKED = (b"PK\x03\x04", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh")
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# pyarrow comes with the jobs' environment (datasets); the command's own is kept small.
JOBS_PYTHON = PROJECT / ".venv-jobs" / "bin" / "python"
READ_PARQUET = """
import json, sys
import pyarrow.parquet as parquet
def given(value):  # every row of a table has every column
    if isinstance(value, dict):
        return {name: given(one) for name, one in value.items() if one is not None}
    return [given(one) for one in value] if isinstance(value, list) else value
for batch in parquet.ParquetFile(sys.argv[1]).iter_batches(256):
    for row in batch.to_pylist():
        print(json.dumps(given(row), ensure_ascii=False, default=str))
"""
EXPECTED = "expected one JSON object per line, or a JSON array, in UTF-8 or UTF-16, also in gzip, or parquet"


class SourceError(Exception):
    """A file cannot be read as text; the message has the reason and what to do."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def check_file(path: Path) -> int | None:
    """Check that the file can be read, and return its size in bytes; None for a pipe, which is read only once.

    Raises SourceError.
    """
    if path == STDIN:
        return None
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise SourceError(f"{path} is a directory: name its files, e.g. {path}/*.jsonl")
        if not stat.S_ISREG(found.st_mode):
            return None
        with open_source(path):
            return found.st_size
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def open_source(path: Path) -> Iterator[tuple[BinaryIO, bytes]]:
    """Open a file; yields its text as a stream, and the beginning of it. Raises SourceError and OSError."""
    with ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb", buffering=0))
        start = _start(file)
        pieces = _from_parquet(path) if start.startswith(PARQUET) else _pieces(start, file)
        if start.startswith(GZIP):
            pieces = _pieces(b"", gzip.GzipFile(fileobj=_stream(pieces)))
        try:
            plain = _as_lines(_stream(pieces))
            start = _start(plain)
            check_text(path, start)
            yield _stream(_pieces(start, plain)), start
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise SourceError(f"{path} is a damaged or truncated gzip file: {error}") from error
        except UnicodeDecodeError as error:
            raise SourceError(f"{path} is not UTF-16, as its first bytes claim: {error.reason}") from error
        finally:
            pieces.close()


def check_text(path: Path, start: bytes) -> None:
    """Raise SourceError unless a file that starts so is text. A NUL in one broken line does not make it binary."""
    if start.startswith(PACKED):
        raise SourceError(f"{path} is packed (zip, xz, zstd or bzip2): unpack it, or use gzip")
    if not start.removeprefix(BOM).strip():
        raise SourceError(f"{path} is empty: {EXPECTED}")
    many = start[:NULS_OF].count(0) * 3 > len(start[:NULS_OF])
    if many or (b"\0" in start and not any(line.lstrip().startswith((b"{", b"[")) for line in start.split(b"\n"))):
        raise SourceError(f"{path} is not a text file, or in UTF-16 without its mark: {EXPECTED}")
    if not any(line.lstrip().startswith((b"{", b"[")) for line in start.removeprefix(BOM).split(b"\n")):
        raise SourceError(f"{path} holds no JSON in its first {SNIFFED // 1024} KiB: {EXPECTED}")


def _start(file: BinaryIO) -> bytes:
    """Read the beginning of a stream, also of a pipe that gives it in pieces."""
    start = b""
    while len(start) < SNIFFED and (more := file.read(SNIFFED - len(start))):
        start += more
    return start


def _as_lines(file: BinaryIO) -> BinaryIO:
    """The stream in UTF-8, its lines ended by a line feed. Raises UnicodeDecodeError where it is read."""
    start = _start(file)
    pieces = _pieces(start, file)
    if start.startswith(UTF_16):
        pieces = _decoded(pieces)
    elif b"\r" in start and b"\n" not in start:
        pieces = (piece.replace(b"\r", b"\n") for piece in pieces)
    return _stream(pieces)


def _decoded(pieces: Iterator[bytes]) -> Generator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    for piece in pieces:
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def _from_parquet(path: Path) -> Generator[bytes]:
    """The rows as lines of JSON. Raises SourceError."""
    if path == STDIN or not JOBS_PYTHON.exists():
        raise SourceError(
            f"{path} is parquet, which is read from a file, by the jobs' environment ({JOBS_PYTHON}, made by "
            "`make setup`): have both, or save it as JSON Lines"
        )
    command = (JOBS_PYTHON, "-c", READ_PARQUET, path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}) as process:
        assert process.stdout and process.stderr
        try:
            yield from _pieces(b"", process.stdout)
            last = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        finally:
            process.kill()
        if last:
            raise SourceError(f"{path} is parquet that pyarrow cannot read: {last}")


def _pieces(start: bytes, rest: Readable) -> Generator[bytes]:
    """The beginning of a stream that was read already, then the rest of it."""
    yield start
    while piece := rest.read(CHUNK):
        yield piece


def _stream(pieces: Iterator[bytes]) -> BinaryIO:
    return io.BufferedReader(_Pieces(pieces), CHUNK)


class _Pieces(io.RawIOBase):
    """A raw stream of the pieces that an iterator gives."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._left_over, self._rest = b"", pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left_over:
            piece = next(self._rest, None)
            if piece is None:
                return 0
            self._left_over = piece
        size = min(len(buffer), len(self._left_over))
        buffer[:size], self._left_over = self._left_over[:size], self._left_over[size:]
        return size
