"""What facts say in a few words; those of an earlier version lack fields."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli.errors import UserError
from deploy.cli.format import parse_duration
from deploy.cli.views.fact_text import saying
from tests.unit.cli.rows import EVACUATED, RESTORED

MEMORY = "memory 3.0 GiB → 0 B"
AWAY = "after 22 s without inference"


@pytest.mark.parametrize(
    ("subject", "body", "told"),
    [
        ("gpu.evacuated", EVACUATED, MEMORY),
        ("gpu.evacuated", {**EVACUATED, "drained": 0, "aborted": 0}, MEMORY),
        ("gpu.evacuated", {**EVACUATED, "drained": 3, "aborted": 0}, f"{MEMORY}; requests: 3 drained"),
        ("gpu.evacuated", {**EVACUATED, "drained": 3, "aborted": 1}, f"{MEMORY}; requests: 3 drained, 1 aborted"),
        ("gpu.restored", RESTORED, AWAY),
        ("gpu.restored", {**RESTORED, "probes_equal": None, "missing": []}, AWAY),
        ("gpu.restored", {**RESTORED, "probes_equal": True}, f"{AWAY}; every model answers as before"),
        (
            "gpu.restored",
            {**RESTORED, "probes_equal": False, "missing": ["scribe@b"]},
            f"{AWAY}; models answer otherwise than before; missing: scribe@b",
        ),
        ("gpu.interrupted", {"reason": "lease lost"}, "lease lost"),
        ("gpu.interrupted", {"reason": "wanted back", "asked": True}, "asked for: wanted back"),
    ],
)
def test_a_fact_says_what_it_found(subject: str, body: dict[str, Any], told: str) -> None:
    assert saying(subject, body) == told


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("2 h", 7200), ("1.5M", 90), ("45", 45)],
)
def test_durations_are_read_as_they_are_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "10 minutes", "m", "5m later", "1e3", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="write it like 30s, 10m or 2h"):
        parse_duration(text)
