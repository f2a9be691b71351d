"""What is left of the level for a further look at a sealed holdout."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest

from services.verifier.levels import SHARE, level_of, strictest

ALPHA = 0.01


def test_the_first_look_has_the_largest_share_and_each_failure_leaves_less() -> None:
    levels = [level_of((False,) * earlier, ALPHA) for earlier in range(100)]
    assert levels[0] == pytest.approx(0.0060792710, abs=1e-10)
    assert levels == sorted(levels, reverse=True)


def test_looks_that_showed_nothing_never_spend_more_than_the_whole_level() -> None:
    spent = list(accumulate(level_of((False,) * earlier, ALPHA) for earlier in range(5000)))
    assert spent[-1] < ALPHA
    assert spent[-1] == pytest.approx(ALPHA, rel=1e-3)


def test_a_look_that_showed_learning_hands_its_level_on() -> None:
    """Online fallback by its formula: alpha_k = alpha gamma_k + R_(k-1) alpha_(k-1)."""
    first = ALPHA * SHARE
    assert level_of((True,), ALPHA) == pytest.approx(ALPHA * SHARE / 4 + first)
    assert level_of((True, True), ALPHA) == pytest.approx(ALPHA * SHARE * (1 + 1 / 4 + 1 / 9))
    assert level_of((True, False), ALPHA) == pytest.approx(ALPHA * SHARE / 9)
    assert math.isclose(level_of((True,) * 2000, ALPHA), ALPHA, rel_tol=1e-3)


def test_sessions_with_another_past_share_the_strictest_level_of_them() -> None:
    histories = [(), (False, True), (False,), (False, False)]
    assert strictest(histories, ALPHA) == (False, False)
    assert strictest([], ALPHA) == ()
