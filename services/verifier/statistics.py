"""The statistics of a verdict, in plain Python: intervals for a score, a paired drop and a clustered gain."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

NORMAL = NormalDist()
POWER = 0.8


def wilson(right: int, n: int, confidence: float, sides: int = 2) -> tuple[float, float]:
    """Score interval for one proportion (Wilson 1927). With `sides=1` each end is a one-sided bound."""
    if not n:
        return 0.0, 1.0
    z = NORMAL.inv_cdf(1 - (1 - confidence) / sides)
    share, weight = right / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_drop(lost: int, won: int, n: int, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper bounds of (lost - won) / n over matched pairs (Tango 1998, Statist. Med. 17:891-908).

    `lost` pairs went from right to wrong, `won` from wrong to right. It keeps its level with few or no discordant
    pairs, where the Wald interval shrinks to nothing.
    """
    if not n:
        return -1.0, 1.0
    z = NORMAL.inv_cdf(confidence)
    low = _root(lambda drop: _tango_z(drop, lost, won, n) - z)
    high = _root(lambda drop: _tango_z(drop, lost, won, n) + z)
    return low, high


def _tango_z(drop: float, lost: int, won: int, n: int) -> float:
    """Tango's score statistic for the hypothesis of a true drop; it falls as `drop` grows."""
    b = -lost - won + (2 * n - lost + won) * drop
    c = -won * drop * (1 - drop)
    shared = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * shared + drop * (1 - drop))
    difference = lost - won - n * drop
    if variance > 0:
        return difference / math.sqrt(variance)
    return math.copysign(math.inf, difference) if difference else 0.0


def _root(falling: Callable[[float], float]) -> float:
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def detectable_drop(discordant: int, n: int, confidence: float) -> float:
    """The smallest true drop that n pairs with this discordance show with a power of 80 %."""
    if not n:
        return 1.0
    z = NORMAL.inv_cdf(confidence) + NORMAL.inv_cdf(POWER)
    return min(1.0, z * math.sqrt(max(discordant, 1)) / n)


def clustered_gain(
    gains: Mapping[str, Sequence[float]], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """One-sided lower and upper bounds of the mean gain, items of a cluster kept together.

    Cluster bootstrap, expanded percentile interval (Hesterberg 2015, The American Statistician 69:371-386), which makes
    up for few clusters. Each resample's mean falls with every item's gain, so the bounds never rise when an item gets
    worse.
    """
    clusters = [(math.fsum(gains[name]), len(gains[name])) for name in sorted(gains)]
    if len(clusters) < 2:
        return -math.inf, math.inf
    chance = random.Random(seed)
    means = sorted(_resampled_mean(clusters, chance) for _ in range(resamples))
    degrees = len(clusters) - 1
    tail = NORMAL.cdf(-math.sqrt(len(clusters) / degrees) * t_quantile(confidence, degrees))
    place = max(0, math.floor(tail * (resamples + 1)) - 1)
    return means[place], means[resamples - 1 - place]


def _resampled_mean(clusters: Sequence[tuple[float, int]], chance: random.Random) -> float:
    drawn = chance.choices(clusters, k=len(clusters))
    return math.fsum(total for total, _ in drawn) / sum(count for _, count in drawn)


def t_quantile(confidence: float, degrees: int) -> float:
    """Student's t by the expansion in the normal quantile (Abramowitz and Stegun 26.7.5); 0.1 % off at 4 degrees."""
    z = NORMAL.inv_cdf(confidence)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / degrees + second / degrees**2 + third / degrees**3 + fourth / degrees**4
