"""Passages of 13 words, sampled, by which texts that share one are found (GPT-3, arXiv 2005.14165, appendix C).

A letter of a script without spaces counts as half a word. A passage is kept depending on its own hash (1 of 16), so both
texts that share it keep the same ones: a shared run of 13 + 15 words is found with probability 0.64, one of 13 + 60 with 0.98.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from services.harvester.scan.normalise import half_words

WORDS = 13
SAMPLED = 16
USUAL_BYTES = 1 << 16  # powers for texts up to this size are computed once
_SPACE = ord(" ")
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_SPREAD = np.uint64(0xD6E8FEB86659FD93)  # odd; brings what differs anywhere in a hash into its highest bits
_LEAST = np.uint64((1 << 64) // SAMPLED)

Hashes = npt.NDArray[np.uint64]


def sample_ngrams(words: bytes) -> list[int]:
    """The sampled passages of a text, as signed 64-bit numbers; its words are joined by single spaces."""
    data = np.frombuffer(words + b" ", np.uint8)
    ends = np.flatnonzero(data == _SPACE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    last = _last_words(words, len(ends))
    hashes = _rolling(data, starts[: len(last)], ends[last])
    kept = hashes[hashes * _SPREAD < _LEAST]
    return sorted(set(_mixed(kept).astype(np.int64).tolist()))


def _last_words(words: bytes, count: int) -> npt.NDArray[np.int64]:
    """The place of the last word of the passage that begins at each word, as far as the words suffice."""
    if words.isascii():
        return np.arange(WORDS - 1, count)
    halves = np.fromiter(map(half_words, words.decode().split(" ")), np.int64, count)
    until = np.cumsum(halves)
    last = np.searchsorted(until, until - halves + 2 * WORDS)
    return last[last < count]


def _rolling(data: npt.NDArray[np.uint8], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Hashes:
    """Polynomial hash of data[first:last] for every pair at once, modulo 2^64 (Rabin's rolling hash, by prefix sums)."""
    powers, inverses = _powers(max(USUAL_BYTES, 1 << len(data).bit_length()))
    prefix = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(data * powers[: len(data)], out=prefix[1:])
    hashes: Hashes = (prefix[last] - prefix[first]) * inverses[first]
    return hashes


@lru_cache(maxsize=2)
def _powers(size: int) -> tuple[Hashes, Hashes]:
    return _cumulative(_BASE, size), _cumulative(pow(_BASE, -1, 1 << 64), size)


def _cumulative(base: int, size: int) -> Hashes:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


def _mixed(values: Hashes) -> Hashes:
    """splitmix64's finaliser: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
