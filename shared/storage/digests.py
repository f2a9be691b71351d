"""Digests that identify files and directories."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

PREFIX = "sha256:"


def digest_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def digest_text(text: str) -> str:
    """`sha256:<hex>` of a text's UTF-8 bytes."""
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()


def digest_tree(path: Path) -> str:
    """`sha256:<hex>` of a directory: over its files' relative paths and digests, in order of path.

    Links are followed: the files of base models often are links. What a job wrote is read by `untrusted` instead.
    """
    return digest_files(
        {entry.relative_to(path).as_posix(): digest_file(entry) for entry in path.rglob("*") if entry.is_file()}
    )


def digest_files(files: Mapping[str, str]) -> str:
    """The `digest_tree` of a directory with these files, given as relative path -> digest."""
    total = hashlib.sha256()
    for name, digest in sorted(files.items()):
        total.update(f"{name}\0{digest.removeprefix(PREFIX)}\n".encode())
    return PREFIX + total.hexdigest()
