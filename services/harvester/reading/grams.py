"""Passages of 13 words, sampled, by which texts that share one are found (GPT-3, arXiv 2005.14165, appendix C).

A passage is kept when its own hash says so (1 of 16), so both texts that share it keep the same ones: a shared run of
13 + 15 words is found with probability 0.64, one of 13 + 60 with 0.98.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

WORDS = 13
SAMPLED = 16
SPACE, BREAK = 32, 10
CHUNK_BYTES = 128 * 1024
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_SPREAD = np.uint64(0xD6E8FEB86659FD93)  # odd; brings what differs anywhere in a hash into its highest bits
_LEAST = np.uint64((1 << 64) // SAMPLED)

Hashes = npt.NDArray[np.uint64]


def sampled(texts: Sequence[bytes]) -> list[list[int]]:
    """The sampled passages of each text, as signed 64-bit numbers; texts are words joined by one space."""
    found: list[list[int]] = []
    for chunk in _chunks(texts):
        found += _of_chunk(chunk)
    return found


def _chunks(texts: Sequence[bytes]) -> list[list[bytes]]:
    """Texts in groups of about CHUNK_BYTES, so that the arrays stay small."""
    chunks: list[list[bytes]] = []
    room = 0
    for text in texts:
        if room <= 0:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(text)
        room -= len(text) + 1
    return chunks


def _of_chunk(texts: list[bytes]) -> list[list[int]]:
    data = np.frombuffer(b"\n".join(texts) + b"\n", np.uint8)
    ends = np.flatnonzero((data == SPACE) | (data == BREAK))
    starts = np.concatenate(([0], ends[:-1] + 1))
    breaks = data[ends] == BREAK
    text_of = np.cumsum(breaks) - breaks
    found: list[list[int]] = [[] for _ in texts]
    if len(starts) < WORDS:
        return found
    first, last = starts[: 1 - WORDS], ends[WORDS - 1 :]
    whole = text_of[: 1 - WORDS] == text_of[WORDS - 1 :]
    hashes = _rolling(data, first, last)
    kept = np.flatnonzero(whole & (hashes * _SPREAD < _LEAST))
    found_hashes = _mixed(hashes[kept]).astype(np.int64)
    for text, value in zip(text_of[kept].tolist(), found_hashes.tolist(), strict=True):
        found[text].append(value)
    return [sorted(set(values)) if len(values) > 1 else values for values in found]


def _rolling(data: npt.NDArray[np.uint8], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Hashes:
    """Polynomial hash of data[first:last] for every pair at once, modulo 2^64 (Rabin's rolling hash, by prefix sums)."""
    powers, inverses = _powers(1 << int(len(data) - 1).bit_length())
    prefix = np.zeros(len(data) + 1, np.uint64)
    prefix[1:] = data
    prefix[1:] *= powers[: len(data)]
    np.cumsum(prefix, out=prefix)
    hashes: Hashes = (prefix[last] - prefix[first]) * inverses[first]
    return hashes


@lru_cache(maxsize=4)
def _powers(size: int) -> tuple[Hashes, Hashes]:
    inverse = pow(_BASE, -1, 1 << 64)
    return _cumulative(_BASE, size), _cumulative(inverse, size)


def _cumulative(base: int, size: int) -> Hashes:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


def _mixed(values: Hashes) -> Hashes:
    """splitmix64's finaliser: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
