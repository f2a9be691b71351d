"""The level at which a look at a sealed holdout may find learning, after the looks before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

SHARE = 6 / math.pi**2  # the reciprocals of the squares sum to its inverse


def level_of(history: Sequence[bool], alpha: float) -> float:
    """The level of the next test on sessions whose earlier tests ended so, True where they showed learning.

    Online fallback (Tian and Ramdas 2021, Statistical Methods in Medical Research 30:976-993): the k-th test gets
    alpha * 6 / (pi * k)^2, and what a test that showed learning had. However many candidates without effect are tested, and
    however they depend on each other, the probability that any is found to have learned is at most alpha.
    """
    kept = 0.0
    for place, learned in enumerate((*history, False), start=1):
        level = alpha * SHARE / place**2 + kept
        kept = level if learned else 0.0
    return level


def strictest(histories: Iterable[tuple[bool, ...]], alpha: float) -> tuple[bool, ...]:
    """The history with the least level left: what shares a test with it is tested no less strictly than on its own."""
    return min(histories, key=lambda history: (level_of(history, alpha), -len(history)), default=())
