"""Files that only their owner can read: keys and passwords, which are made once, and what is written again at each start."""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.storage.artifacts import sync

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


def make_password() -> str:
    return secrets.token_urlsafe(32)


def get_secret(file: Path, make: Callable[[], str]) -> str:
    """The secret in a file, which is made where it is missing. It is there whole, and once: several services may start together."""
    if not is_made(file):
        _make_folder(file.parent)
        _remove_empty(file)
        partial = _write_partial(file, make() + "\n")
        with suppress(FileExistsError):
            os.link(partial, file)
        partial.unlink()
        sync(file.parent)
    return file.read_text().strip()


def is_made(file: Path) -> bool:
    """Whether the file has a secret. A power cut may leave an empty one."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def write_private(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    _write_partial(file, text).replace(file)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
        sync(folder.parent)


def _remove_empty(file: Path) -> None:
    """Remove an empty file, and never the whole one that another service puts there at the same time."""
    with suppress(FileNotFoundError), file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = os.fstat(held.fileno())
        if found.st_nlink and not found.st_size:
            file.unlink()


def _write_partial(file: Path, text: str) -> Path:
    partial = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_native_id()}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    return partial
