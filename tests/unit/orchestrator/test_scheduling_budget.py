"""What a hand-over is expected to take, and what the configuration refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.orchestrator.scheduling.limits import estimate_away_s
from shared.config.tipping import TippingConfig


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], 900),
        ([60], 900),  # one receipt is no proof
        ([60, 60], 180),
        ([60, 60, 60], 60),
        ([18_000], 2700),  # one that hung refuses nobody for good
        ([18_000, 600, 600], 1800),
        ([600] * 9 + [18_000], 600),
        ([float(n) for n in range(1, 21)], 18),
        ([600, 610, 620, 630], 630),
        ([float("nan"), float("inf"), -1, 0], 900),
    ],
)
def test_the_estimate_is_an_upper_quantile_that_one_outlier_does_not_move_far(
    past: list[float], expected: float
) -> None:
    assert estimate_away_s(past, 900) == expected


@given(st.lists(st.floats(), max_size=40), st.floats(1, 1e6))
def test_an_estimate_is_a_time_and_at_most_three_times_the_usual_one(past: list[float], default: float) -> None:
    assert 0 < estimate_away_s(past, default) <= 366 * 86400


@given(st.lists(st.floats(1, 1e5), min_size=3, max_size=40), st.floats(1, 1e4))
def test_an_estimate_grows_with_what_was_seen(past: list[float], more: float) -> None:
    assert estimate_away_s(past, 900) <= estimate_away_s([seconds + more for seconds in past], 900) + 1e-6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timezone": "Berlin"}, "write it like Europe/Berlin"),
        ({"timezone": "../etc/passwd"}, "is not known here"),
        ({"timezone": ""}, "is not known here"),
        ({"timezone": "Europe"}, "is not known here"),
        ({"policy": "window"}, 'windows = \\["01:00-06:00"\\]'),
        ({"windows": ("01:00-01:00",)}, "begins when it ends"),
        ({"windows": ("24:00-01:00",)}, "two times of the day"),
        ({"away_budget_s": 600}, "every first ritual would be refused"),
        ({"idle_for_s": float("inf")}, "less than or equal"),
        ({"busy_above": float("nan")}, "less than or equal"),
    ],
)
def test_a_tipping_configuration_that_cannot_work_is_refused_with_what_to_change(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        TippingConfig(**fields)


def test_a_tipping_configuration_starts_at_once_by_default() -> None:
    assert TippingConfig().policy == "immediate" and TippingConfig().away_budget_s is None
    assert str(TippingConfig(timezone="Europe/Berlin", away_budget_s=900).zone) == "Europe/Berlin"
