"""The statistics against those that others keep: values that SciPy 1.17.1 and statsmodels 0.15.0 gave, to nine digits."""

from __future__ import annotations

import math
from itertools import product
from random import Random

import pytest

from services.verifier import statistics

exactly = pytest.approx


def same(value: float) -> object:
    return exactly(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("confidence", "degrees", "expected"), [
    (0.95, 1, 6.313751514675037),
    (0.99, 2, 6.9645567342832715),
    (0.95, 4, 2.1318467863266495),
    (0.999, 5, 5.893429531356009),
    (0.975, 9, 2.262157162798205),
    (0.9999, 12, 5.263273007826034),
    (0.99, 30, 2.457261542400591),
    (0.95, 399, 1.6486815335554255),
    (0.995, 3000, 2.5774691348386076),
])  # fmt: skip
def test_students_quantiles(confidence: float, degrees: int, expected: float) -> None:
    """scipy.stats.t.ppf"""
    assert statistics.t_quantile(confidence, degrees) == same(expected)


@pytest.mark.parametrize(("won", "lost", "expected"), [
    (10, 3, 0.046142578125),
    (3, 10, 0.98876953125),
    (7, 0, 0.0078125),
    (25, 24, 0.5),
    (121, 59, 2.2172246318775823e-06),
])  # fmt: skip
def test_single_pairs_are_tested_by_the_exact_mcnemar_test(won: int, lost: int, expected: float) -> None:
    """One-sided: scipy.stats.binomtest(won, won + lost, alternative="greater"); half of statsmodels' mcnemar(exact=True)."""
    assert statistics.sign_flip([1.0] * won + [-1.0] * lost + [0.0] * 30) == same(expected)


@pytest.mark.parametrize("seed", range(5))
def test_sessions_are_tested_by_every_choice_of_their_signs(seed: int) -> None:
    """What scipy.stats.permutation_test(permutation_type="samples") enumerates."""
    chance = Random(seed)
    totals = [float(chance.randint(-3, 4)) for _ in range(9)]
    reached = [sum(s * abs(t) for s, t in zip(signs, totals, strict=True)) for signs in product((1, -1), repeat=9)]
    expected = sum(value >= sum(totals) for value in reached) / len(reached)
    assert statistics.sign_flip(totals) == same(expected)


def test_nothing_and_no_difference_show_nothing() -> None:
    assert statistics.sign_flip([]) == statistics.sign_flip([0.0] * 8) == 1.0


def test_a_gain_in_every_one_of_few_sessions_is_as_rare_as_their_number_allows() -> None:
    assert statistics.sign_flip([0.7, 0.2, 0.4, 0.41, 0.3]) == same(1 / 32)


def test_hostile_totals_need_no_memory() -> None:
    assert 0 <= statistics.sign_flip([1e10] * 300 + [-1e10] * 290 + [1e-3] * 1000) <= 1


def test_a_worse_session_never_makes_the_gain_less_likely_by_chance() -> None:
    totals = [3.0, 1.0, 2.0, -1.0, 0.0, 2.0, 1.0]
    for at in range(len(totals)):
        worse = [total - (place == at) for place, total in enumerate(totals)]
        assert statistics.sign_flip(worse) >= statistics.sign_flip(totals)


def test_holms_adjustment() -> None:
    """statsmodels.stats.multitest.multipletests(method="holm")"""
    values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": 0.5}
    expected = {"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.025, "e": 0.5}
    assert statistics.holm(values) == {name: same(value) for name, value in expected.items()}
    assert statistics.holm({}) == {}


@pytest.mark.parametrize(("right", "n", "low", "high"), [
    (81, 263, 0.2552885198782742, 0.36620957698280004),
    (0, 20, 0.0, 0.1611251580528194),
    (37, 37, 0.9059421741627973, 0.9999999999999998),
    (7, 100, 0.03431926106727266, 0.13749514739073504),
])  # fmt: skip
def test_wilsons_interval(right: int, n: int, low: float, high: float) -> None:
    """statsmodels.stats.proportion.proportion_confint(method="wilson")"""
    assert statistics.wilson(right, n, 0.95) == (same(low), same(high))


GAINS = {"a": [1.0, 0.0, 1.0], "b": [0.0, 0.0], "c": [1.0], "d": [-1.0, 1.0, 0.0, 0.0], "e": [1.0, 1.0], "f": [0.0]} | {
    f"g{number}": [0.5, float(number % 3)] for number in range(6)
}


def test_what_is_detectable_follows_from_the_cluster_robust_error() -> None:
    """statsmodels' OLS of the gains on a constant, cov_type="cluster": its standard error; SciPy's quantiles."""
    error, normal, student = 0.14784207790747525, 2.3263478740408408, 1.3634303180205407
    count, items = len(GAINS), sum(map(len, GAINS.values()))
    deviation = error * items / math.sqrt(count)
    total = statistics.detectable_gain(GAINS, 0.01) * items / count
    found = math.sqrt(count) * total - student * deviation
    assert found == same(normal * math.sqrt(deviation**2 + total**2))
    assert statistics.detectable_gain(GAINS, 1e-6) == math.inf, "twelve sessions show nothing at that level"


def test_the_clustered_interval_ends_at_the_resamples_that_the_quantile_of_t_names() -> None:
    """scipy.stats.norm.cdf(-sqrt(n / (n - 1)) * t.ppf(confidence, n - 1)), of 999 resamples in order."""
    chance = Random(3)
    clusters = [(math.fsum(values), len(values)) for _, values in sorted(GAINS.items())]
    drawn = [chance.choices(clusters, k=len(clusters)) for _ in range(999)]
    means = sorted(math.fsum(total for total, _ in draw) / sum(count for _, count in draw) for draw in drawn)
    place = int(0.030345459665587427 * 1000) - 1
    assert statistics.clustered_gain(GAINS, 0.95, 999, 3) == (means[place], means[-1 - place])
