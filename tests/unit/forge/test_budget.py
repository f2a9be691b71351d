"""When a run has used its time or its energy, and where the energy is read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.forge.trainer.budget import Budget
from services.forge.trainer.energy import EnergyMeter, open_meter
from shared.config.recipe import Recipe
from shared.jobs.result_writer import InputError


class Hand:
    """A clock, or a counter, that a test turns."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        return self.at


def test_a_run_ends_when_its_seconds_are_over_those_of_earlier_attempts_included() -> None:
    clock = Hand()
    budget = Budget(Recipe(seconds=100), None, clock)
    clock.at = 40  # the first dev loss is measured before the run begins
    budget.begin([{"step": 3, "loss": 1.0, "seconds": 70.0}])

    clock.at = 69
    assert (budget.spent(), budget.used(), budget.left_s()) == ("", {"seconds": 99.0}, 1.0)
    clock.at = 70
    assert budget.spent() == "its 100 s were over" and budget.left_s() == 0


def test_a_run_ends_when_its_energy_is_used_those_of_earlier_attempts_included() -> None:
    counter = Hand()
    budget = Budget(Recipe(joules=50), EnergyMeter([(counter, 0)], unit_j=0.001), Hand())
    counter.at = 9_000
    budget.begin([{"step": 3, "loss": 1.0, "seconds": 7.0, "joules": 20.0}])

    counter.at = 38_999
    assert budget.spent() == "" and budget.used() == {"seconds": 7.0, "joules": 49.999}
    counter.at = 39_000
    assert budget.spent() == "its 50 J were used"


def test_without_limits_a_run_never_ends_early_and_without_a_counter_no_energy_is_reported() -> None:
    clock = Hand()
    budget = Budget(Recipe(), None, clock)
    budget.begin([])
    clock.at = 10**9
    assert (budget.spent(), budget.left_s(), budget.used()) == ("", None, {"seconds": 1e9})
    assert [Budget(recipe, None).limited for recipe in (Recipe(), Recipe(seconds=1))] == [False, True]


def test_a_limit_of_energy_that_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="no counter of all its energy can be read"):
        Budget(Recipe(joules=50), None)


def zone(folder: Path, number: int, name: str, used: int, span: int = 1000) -> Path:
    made = folder / f"intel-rapl:{number}"
    made.mkdir()
    for file, value in {"name": name, "energy_uj": used, "max_energy_range_uj": span}.items():
        (made / file).write_text(f"{value}\n")
    return made / "energy_uj"


def test_the_processors_energy_is_that_of_all_packages_also_where_a_counter_begins_again(tmp_path: Path) -> None:
    one, other = zone(tmp_path, 0, "package-0", 900), zone(tmp_path, 1, "package-1", 0)
    machine = zone(tmp_path, 2, "psys", 5)  # the whole machine, with what the packages have
    meter = open_meter([], tmp_path)
    assert meter and meter.joules() == 0

    one.write_text("100")  # 900 to 1000, then to 100
    other.write_text("30")
    machine.write_text("240")
    assert meter.joules() == pytest.approx(230e-6)
    one.write_text("150")
    assert meter.joules() == pytest.approx(280e-6)


def test_where_there_is_no_counter_or_it_is_not_readable_there_is_no_meter(tmp_path: Path) -> None:
    assert open_meter([], tmp_path) is None
    zone(tmp_path, 0, "package-0", 900).unlink()
    assert open_meter([], tmp_path) is None
    assert open_meter(["GPU-00000000-0000-0000-0000-000000000000"]) is None
