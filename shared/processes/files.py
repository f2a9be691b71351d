"""The files of processes: records, locks, logs."""

from __future__ import annotations

import fcntl
import io
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shared.contracts.frozen import Frozen
from shared.storage.artifacts import write_atomically

Record = TypeVar("Record", bound=Frozen)

LONGEST_LOG = 10 * 1024**2  # bytes; twice that with the predecessor
LONGEST_TAIL = 1024**2  # bytes; a job may write lines of any length


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Read a record. None where there is none, or where it cannot be read as `kind`."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def write_record(path: Path, record: Frozen) -> None:
    """Replace the record at `path` in one step."""
    write_atomically(path, record.model_dump_json(indent=2))


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock at `path`; False where another process has it. The kernel releases it when its holder dies."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def read_tail(log: Path, lines: int) -> str:
    """Return the last lines of a log, from its last LONGEST_TAIL bytes; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_TAIL))
            tail = io.TextIOWrapper(io.BytesIO(file.read(LONGEST_TAIL)), encoding="utf-8", errors="replace")
            return "".join(deque(tail, maxlen=lines))
    except FileNotFoundError:
        return ""


def rotate(log: Path) -> None:
    """Copy the end of a log that grew beyond LONGEST_LOG to `<log>.1`, and empty it. Raises OSError.

    Its writer keeps the file open, so it is not renamed; it must append (O_APPEND). What it writes between copy and
    truncation is lost.
    """
    if log.stat().st_size <= LONGEST_LOG:
        return
    with log.open("rb") as file:
        # Not all of it: a job can make its log as long as it likes without writing it.
        file.seek(-LONGEST_LOG, os.SEEK_END)
        log.with_name(f"{log.name}.1").write_bytes(file.read(LONGEST_LOG))
    os.truncate(log, 0)
