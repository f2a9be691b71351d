"""Find items of the benchmarks in use: a score would mean nothing after training on them.

An item is its question, with the right answer where it has choices; of a public task's row each text is one. Of
a long item any 13 words in a row count, of a shorter one all of it; items of fewer than 8 words are everyday language and do not
count. Two letters of a script without spaces count as a word.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import hyperscan

from services.harvester.scan.normalise import half_words, words_of_text

LONGEST = 13
SHORTEST = 8


def read_passages(folder: Path) -> list[str]:
    """The passages that must not be trained on, from every `*.jsonl` below `folder`, sorted."""
    found = {passage for path in folder.rglob("*.jsonl") for item in _items(path) for passage in _passages(item)}
    return sorted(found)


def _items(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if "prompt" in item:
            yield item["prompt"]
        elif "choices" in item and "context" in item and isinstance(item.get("answer"), int):
            yield f"{item['context']} {item['choices'][item['answer']]}"
        else:  # a row of a public task, whose columns are its own
            yield from (value for value in item.values() if isinstance(value, str))


def _passages(item: str) -> Iterator[str]:
    words = words_of_text(item).decode().split()
    halves = list(accumulate(map(half_words, words), initial=0))
    if halves[-1] < 2 * SHORTEST:
        return
    size = min(halves[-1], 2 * LONGEST)
    for start, before in enumerate(halves):
        if (end := bisect_left(halves, before + size)) < len(halves):
            yield " ".join(words[start:end])


class Benchmarks:
    """Finds any of many passages in one pass over a text."""

    def __init__(self, passages: list[str]) -> None:
        self._database: hyperscan.Database | None = None
        self._found = False
        if passages:
            self._database = hyperscan.Database()
            expressions = [f" {passage} ".encode() for passage in passages]
            self._database.compile(expressions=expressions, ids=list(range(len(expressions))), literal=True)
            self._scratch = hyperscan.Scratch(self._database)

    def meets(self, words: bytes) -> bool:
        """Whether these words, joined by single spaces, hold a passage."""
        self._found = False
        if self._database is not None:
            self._database.scan(b" %b " % words, self._match, scratch=self._scratch)
        return self._found

    def _match(self, *_: object) -> None:
        self._found = True
