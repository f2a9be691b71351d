"""Reads the shards of a split: `<split>/00000.jsonl` upward, in order, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".jsonl"
DIGITS = 5


class ShardError(Exception):
    """A split cannot be read; the message names the shard."""


def shard_name(number: int) -> str:
    return f"{number:0{DIGITS}}{SUFFIX}"


def shards(split: Path) -> list[Path]:
    """The shards in order; none where there is no such split. Raises ShardError for a gap or a stray file."""
    found = sorted(split.iterdir()) if split.is_dir() else []
    for number, path in enumerate(found):
        if path.name != shard_name(number):
            raise ShardError(
                f"{split.name} should continue with {shard_name(number)}, found {path.name}: harvest again"
            )
    return found


def lines(split: Path) -> Iterator[tuple[str, str]]:
    """Each line with its place, such as `train/00000.jsonl line 3`; blank lines are skipped. Raises ShardError."""
    for path in shards(split):
        # Not splitlines(): it also splits at characters that JSON text may hold.
        with path.open(encoding="utf-8") as file:
            try:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield f"{split.name}/{path.name} line {number}", line
            except UnicodeDecodeError as error:
                raise ShardError(f"{split.name}/{path.name} is not UTF-8: {error.reason}") from error
