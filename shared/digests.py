"""Digests by which files and directories are named and compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

PREFIX = "sha256:"


def digest_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def digest_tree(path: Path) -> str:
    """`sha256:<hex>` of a directory: over its files' relative paths and digests, in order of path. Links are followed."""
    total = hashlib.sha256()
    for file in sorted(
        (entry for entry in path.rglob("*") if entry.is_file()), key=lambda entry: entry.relative_to(path).as_posix()
    ):
        total.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file).removeprefix(PREFIX)}\n".encode())
    return PREFIX + total.hexdigest()
