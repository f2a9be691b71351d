"""The statistics of a verdict: intervals for a score, a paired drop and a clustered gain; exact tests; what is detectable."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()
POWER = 0.9  #: at which a minimum detectable effect is stated
GRID = 20_000  #: most steps of the exact distribution; totals of whole numbers below it are not rounded


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
    """The smallest true drop that n pairs with this discordance show with a power of POWER."""
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


def detectable_gain(gains: Mapping[str, Sequence[float]], level: float) -> float:
    """The smallest true mean gain that `sign_flip` finds at `level` with a power of POWER, infinite where there is none.

    The sum of n totals with mean m and standard deviation s is compared with the root of their squares: found where
    sqrt(n) m >= z sqrt(s^2 + m^2) + t s. The deviation is the cluster-robust one of the mean (CR1: Cameron and Miller 2015,
    J. Human Resources 50:317-372).
    """
    count, z = len(gains), NORMAL.inv_cdf(1 - level)
    if count < 2 or count <= z * z or 0.5**count > level:
        return math.inf
    items = sum(map(len, gains.values()))
    mean = math.fsum(math.fsum(values) for values in gains.values()) / items
    variance = math.fsum(math.fsum(value - mean for value in values) ** 2 for values in gains.values()) / (count - 1)
    spare = t_quantile(POWER, count - 1) * math.sqrt(variance)
    least = (math.sqrt(count) * spare + z * math.sqrt(variance * (count - z * z) + spare**2)) / (count - z * z)
    return least * count / items


def sign_flip(totals: Iterable[float]) -> float:
    """One-sided p-value of totals above 0, where under the null hypothesis each is as likely with the other sign.

    The exact randomisation test (Fisher 1935, The Design of Experiments, §21), one sign for a whole cluster. With totals of
    one pair each it is McNemar's exact test. Totals that need more than GRID steps are rounded to them: the test stays exact,
    of the rounded totals.
    """
    found = [total for total in totals if total]
    sizes = math.fsum(map(abs, found))
    whole = sizes <= GRID and all(float(total).is_integer() for total in found)
    steps = [round(total if whole else total * GRID / sizes) for total in found]
    reach = sum(map(abs, steps))
    # chances[s]: the probability that the totals whose sign is positive sum to s.
    chances = np.zeros(reach + 1)
    chances[0] = 1.0
    for size in map(abs, steps):
        chances[size:] = (chances[size:] + chances[: reach + 1 - size]) / 2
        chances[:size] /= 2
    return min(1.0, math.fsum(chances[(sum(steps) + reach) // 2 :].tolist()))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for their number, so that any of them is below a level by chance at that rate (Holm 1979)."""
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(values, key=lambda name: (values[name], name))):
        highest = max(highest, min(1.0, values[name] * (len(values) - rank)))
        adjusted[name] = highest
    return adjusted


def t_quantile(confidence: float, degrees: int) -> float:
    """Student's t, for a confidence above one half: the inverse of its finite series by bisection."""
    high = 1.0
    while _t_tail(high, degrees) > 1 - confidence:
        high *= 2
    low = 0.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_tail(middle, degrees) > 1 - confidence else (low, middle)
    return high


def _t_tail(t: float, degrees: int) -> float:
    """The probability above `t` >= 0 (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term, terms = (math.cos(angle) if odd else 1.0), []
    for step in range(1 + odd, degrees, 2):
        terms.append(term)
        term *= square * step / (step + 1)
    middle = sine * math.fsum(terms)
    if odd:
        middle = 2 / math.pi * (angle + middle)
    return (1 - middle) / 2
