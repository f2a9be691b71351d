"""What a harvest is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from services.harvester.policy import HarvestPolicy
    from shared.contracts.intent import TrainingIntent

#: Called with the phase of a harvest, and how many of how many are done in it.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class HarvestRequest:
    """Whose karma is harvested, under which policy, and kept apart from which benchmarks."""

    persona: str
    intent: TrainingIntent
    policy: HarvestPolicy
    suites: Path  #: folder of the benchmarks in use
    wanted: list[str] | None = None  #: ids that the intent's query found; None: it has no query
