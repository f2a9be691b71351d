"""Files that a job wrote, read as hostile: only regular files, no link below the root, no byte more than a limit.

The root itself is trusted: the service made it. What is below is whatever the job left, so that a pipe, a link to
/dev/zero or a file of a terabyte is an OutputError, and nothing here ever blocks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from shared.contracts.text import clean
from shared.storage.digests import PREFIX

if TYPE_CHECKING:
    from typing import BinaryIO

Model = TypeVar("Model", bound=BaseModel)

KIB, MIB, GIB = 1024, 1024**2, 1024**3
CHUNK = MIB
LONGEST_FAULT = 300
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What open() reports of a link, a file in place of a folder, and a socket.
NOT_REGULAR = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
# The service's own shortage, which passes: no fault of the file.
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class OutputError(Exception):
    """A job's output cannot be used; the message names the file and the fault."""


class MissingOutput(OutputError):
    """The job left no such file."""


def read_model(root: Path, relative: str, model: type[Model], limit: int) -> Model:
    """Read a JSON file of at most `limit` bytes below `root`. Raises OutputError unless it is a valid `model`."""
    return parse_model(read_bytes(root, relative, limit), model, relative)


def read_bytes(root: Path, relative: str, limit: int) -> bytes:
    """Read a file of at most `limit` bytes below `root`. Raises OutputError."""
    return b"".join(chunks(root, relative, limit))


def read_tail(root: Path, relative: str, limit: int) -> bytes:
    """Read the last `limit` bytes of a file below `root`. Raises OutputError."""
    with _faults(relative), _open(root, relative) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def digest_file(root: Path, relative: str, limit: int) -> str:
    """`sha256:<hex>` of a file of at most `limit` bytes below `root`. Raises OutputError."""
    digest = hashlib.sha256()
    for chunk in chunks(root, relative, limit):
        digest.update(chunk)
    return PREFIX + digest.hexdigest()


def chunks(root: Path, relative: str, limit: int) -> Iterator[bytes]:
    """Read a file of at most `limit` bytes below `root`, piece by piece. Raises OutputError."""
    with _faults(relative), _open(root, relative) as file:
        left = os.fstat(file.fileno()).st_size
        if left > limit:
            raise OutputError(f"{relative} is over {_size(limit)}")
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


def list_names(root: Path, relative: str, most: int) -> set[str]:
    """The names in a folder below `root`, at most so many of them. Raises OutputError."""
    with _faults(relative):
        folder = _open_folder(root, Path(relative).parts)
        try:
            with os.scandir(folder) as entries:
                return {clean(entry.name) for entry in islice(entries, most)}
        finally:
            os.close(folder)


def parse_model(data: bytes, model: type[Model], name: str) -> Model:
    """Parse JSON that a job wrote; `name` is what errors call it. Raises OutputError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{name} is not JSON: {_short(error)}") from error
    return validate(value, model, name)


def validate(value: object, model: type[Model], name: str) -> Model:
    """The model of a JSON value, with its texts cleaned and all numbers finite. Raises OutputError."""
    try:
        # Strict, and as JSON: else "NaN" is a number, which PostgreSQL's JSON has not.
        return model.model_validate_json(json.dumps(clean(value), allow_nan=False), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        fault = _short(": ".join([".".join(map(str, first["loc"])) or "all of it", first["msg"]]))
        raise OutputError(f"{name} has {error.error_count()} errors, first {fault}") from error
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{name} cannot be read: {_short(error)}") from error


def _open(root: Path, relative: str) -> BinaryIO:
    *folders, name = Path(relative).parts
    folder = _open_folder(root, folders)
    try:
        descriptor = os.open(name, FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputError(f"{relative} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _open_folder(root: Path, parts: Iterable[str]) -> int:
    folder = os.open(root, FOLDER)
    for part in parts:
        try:
            inner = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


@contextmanager
def _faults(relative: str) -> Iterator[None]:
    """Report the errors of the system as faults of the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingOutput(f"{relative} is missing") from error
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        fault = "is not a regular file" if error.errno in NOT_REGULAR else f"cannot be read: {error.strerror}"
        raise OutputError(f"{relative} {fault}") from error


def _short(fault: object) -> str:
    text = str(fault)
    return text if len(text) <= LONGEST_FAULT else text[:LONGEST_FAULT] + "…"


def _size(size: int) -> str:
    return f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
