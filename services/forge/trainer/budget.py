"""What a run may use: wall-clock time and energy, those of the attempts that it goes on from included.

What was used is in the trainer's log, step by step, which a checkpoint holds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from services.forge.trainer.curve import last_value
from shared.jobs.result_writer import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.forge.trainer.curve import Log
    from services.forge.trainer.energy import EnergyMeter
    from shared.config.recipe import Recipe


class Budget:
    """Measures a run against its recipe's `seconds` and `joules`."""

    def __init__(self, recipe: Recipe, meter: EnergyMeter | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises InputError where the recipe limits the energy and the device has no counter of it."""
        if recipe.joules and meter is None:
            raise InputError(
                f"the recipe ends a run at {recipe.joules:g} J, but no counter of all its energy can be read here: "
                "leave out `joules`, and limit `seconds` or `tokens`"
            )
        self._recipe, self._meter, self._clock = recipe, meter, clock
        self._began, self._earlier_s, self._earlier_j = clock(), 0.0, 0.0

    @property
    def limited(self) -> bool:
        """Whether the recipe limits the run's time or energy."""
        return bool(self._recipe.seconds or self._recipe.joules)

    def begin(self, log: Log) -> None:
        """Begin to count, after what the log of earlier attempts has."""
        self._earlier_s, self._earlier_j = (last_value(log, name) or 0.0 for name in ("seconds", "joules"))
        self._began = self._clock()
        if self._meter:
            self._earlier_j -= self._meter.joules()

    def used(self) -> dict[str, float]:
        """The seconds so far, and the joules where they are known, for the log."""
        used = {"seconds": round(self._earlier_s + self._clock() - self._began, 3)}
        return used | ({"joules": round(self._earlier_j + self._meter.joules(), 3)} if self._meter else {})

    def spent(self) -> str:
        """Which limit of the recipe is reached, in words; empty while none is."""
        used = self.used()
        if self._recipe.seconds and used["seconds"] >= self._recipe.seconds:
            return f"its {self._recipe.seconds:g} s were over"
        if self._recipe.joules and used["joules"] >= self._recipe.joules:
            return f"its {self._recipe.joules:g} J were used"
        return ""

    def left_s(self) -> float | None:
        """Seconds until the limit of time; None without one."""
        return max(self._recipe.seconds - self.used()["seconds"], 0.0) if self._recipe.seconds else None
