"""Do the words of a record hold an item of a benchmark in use? Then its score would say nothing.

An item is its question with the right answer. Of a long item any 13 words in a row count, of a shorter one all of it;
items of fewer than 8 words are everyday language and are not looked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import hyperscan

from services.harvester.patterns import met
from services.harvester.reading.words import words_of

LONGEST = 13
SHORTEST = 8


def passages(folder: Path) -> list[str]:
    """What must not be trained on, from every `*.jsonl` below `folder`, sorted."""
    found = {passage for path in folder.rglob("*.jsonl") for item in _items(path) for passage in _passages(item)}
    return sorted(found)


def digest(found: list[str]) -> str:
    """Names a set of passages: other benchmarks need another reading."""
    return sha256("\n".join(found).encode()).hexdigest()


def _items(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        yield f"{item['context']} {item['choices'][item['answer']]}"


def _passages(item: str) -> Iterator[str]:
    spoken = words_of(item).decode().split()
    if len(spoken) < SHORTEST:
        return
    size = min(len(spoken), LONGEST)
    for start in range(len(spoken) - size + 1):
        yield " ".join(spoken[start : start + size])


class Benchmarks:
    """Finds any of many passages in one pass over a text."""

    def __init__(self, found: list[str]) -> None:
        self._database: hyperscan.Database | None = None
        if found:
            self._database = hyperscan.Database()
            expressions = [f" {passage} ".encode() for passage in found]
            self._database.compile(
                expressions=expressions,
                ids=list(range(len(expressions))),
                literal=True,
            )
            self._scratch = hyperscan.Scratch(self._database)

    def met(self, spoken: Sequence[bytes]) -> set[int]:
        """The places of those texts, words joined by single spaces, that hold a passage."""
        if self._database is None:
            return set()
        return met(self._database, self._scratch, [b" %b " % words for words in spoken])
