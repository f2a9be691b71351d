"""The words that `python -m bench.handover` takes."""

from __future__ import annotations

import pytest

from bench.handover.__main__ import parse


@pytest.mark.parametrize(
    ("words", "drivers", "rounds"),
    [
        ([], ["process"], 3),
        (["--rounds", "1"], ["process"], 1),
        (["process", "docker", "--rounds", "2"], ["process", "docker"], 2),
    ],
)
def test_drivers_and_rounds_may_be_left_out(words: list[str], drivers: list[str], rounds: int) -> None:
    parsed = parse(words)
    assert (parsed.drivers, parsed.rounds) == (drivers, rounds)


def test_an_unknown_driver_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["podman"])
    assert "no driver 'podman': one of process, docker" in capsys.readouterr().err
