"""Hyperscan over many texts at once: a call of its own for each of a million texts costs more than the scan."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import hyperscan


def met(database: hyperscan.Database, scratch: hyperscan.Scratch, texts: Sequence[bytes]) -> set[int]:
    """The places of the texts in which a pattern is found; texts hold no line breaks, since one is put between them.

    A pattern that reaches over a line break may name a text that holds none by itself, but never misses one. Patterns
    must report every match (no HS_FLAG_SINGLEMATCH).
    """
    last: list[int] = []
    database.scan(b"\n".join(texts), lambda _number, _start, end, *_: last.append(end - 1), scratch=scratch)
    if not last:
        return set()
    ends = list(accumulate(len(text) + 1 for text in texts))
    return {bisect_right(ends, place) for place in last}
