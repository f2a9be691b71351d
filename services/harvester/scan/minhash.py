"""MinHash bands of a text: two texts that share a band are worth comparing. Pure, deterministic, the same on any machine.

MinHash: Broder, "On the resemblance and containment of documents", 1997. Banding: Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3.4: with b bands of r rows, two texts of similarity s share a band with
probability 1 - (1 - s^r)^b.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from rensa import RMinHash  # type: ignore[import-untyped]

from services.harvester.scan.normalise import half_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHINGLE = 3  # words
SPACELESS_SHINGLE = 4  # letters of a script without spaces
BANDS = 16
ROWS = 8
PERMUTATIONS = BANDS * ROWS

# Fixed, so that the same records are compared on any machine.
SEED = 20_060
_DIGEST = struct.Struct(f"<{PERMUTATIONS}I")
_FOLD = np.random.Generator(np.random.PCG64(SEED)).integers(0, 2**63, (BANDS, ROWS), dtype=np.uint64) * 2 + 1


def shingles(words: Sequence[str]) -> list[str]:
    """Every three words that follow each other, or four letters of a script without spaces; of fewer, all as one."""
    size = SPACELESS_SHINGLE if 2 * sum(map(half_words, words)) < 3 * len(words) else SHINGLE
    if len(words) < size:
        return [" ".join(words)] if words else []
    return list(map(" ".join, zip(*(words[start:] for start in range(size)), strict=False)))


def bands(words: Sequence[str]) -> list[int]:
    """16 signed 64-bit numbers, each over 8 of 128 permutations; none for no words.

    A pair of Jaccard similarity 0.9 shares a band with probability 0.9999, one of 0.8 with 0.947, one of 0.7 with
    0.613, one of 0.5 with 0.061. Different texts may share a band by chance: verify with `jaccard`.
    """
    if not words:
        return []
    sketch = RMinHash(PERMUTATIONS, SEED)
    sketch.update(shingles(words))
    digest = np.frombuffer(_DIGEST.pack(*sketch.digest()), dtype="<u4").reshape(BANDS, ROWS)
    # A multilinear hash modulo 2^64 (Lemire & Kaser 2014): a different multiplier for every place.
    folded = np.einsum("ij,ij->i", digest.astype(np.uint64), _FOLD)
    numbers: list[int] = folded.view(np.int64).tolist()
    return numbers


def jaccard(one: Iterable[str], other: Iterable[str]) -> float:
    """The exact Jaccard similarity of two sets of shingles; 0.0 where both are empty."""
    a, b = frozenset(one), frozenset(other)
    both = len(a & b)
    return both / (len(a) + len(b) - both) if both else 0.0
