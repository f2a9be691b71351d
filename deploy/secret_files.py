"""Files that only their owner can read: keys and passwords, which are made once, and what is written again at each start."""

from __future__ import annotations

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
    if not file.exists():
        _make_folder(file.parent)
        partial = _write_partial(file, make() + "\n")
        with suppress(FileExistsError):
            os.link(partial, file)
        partial.unlink()
        sync(file.parent)
    return file.read_text().strip()


def write_private(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    _write_partial(file, text).replace(file)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
        sync(folder.parent)


def _write_partial(file: Path, text: str) -> Path:
    partial = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_native_id()}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    return partial
