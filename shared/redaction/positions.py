"""Where many expressions match at once: one Hyperscan pass in place of a search for each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import hyperscan


class Positions(threading.local):
    """Finds the places at which expressions may match; each thread compiles its own, as a scratch space serves one scan at a time."""

    def __init__(self, expressions: Iterable[str]) -> None:
        encoded = [expression.encode() for expression in expressions]
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=encoded,
            ids=list(range(len(encoded))),
            elements=len(encoded),
            flags=hyperscan.HS_FLAG_SOM_LEFTMOST,
        )
        self._scratch = hyperscan.Scratch(self._database)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """The place in characters and the number of an expression that matches from it, in order of both, each once."""
        data = text.encode("utf-8", "surrogatepass")
        found: set[tuple[int, int]] = set()
        self._database.scan(
            data, lambda number, start, _end, _flags, _context: found.add((start, number)), scratch=self._scratch
        )
        at = place = 0
        for start, number in sorted(found):
            step = start - at if len(data) == len(text) else len(data[at:start].decode("utf-8", "surrogatepass"))
            at, place = start, place + step
            yield place, number
