"""What a harvest is to compile, and where it finds what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from services.harvester.policy import HarvestPolicy
    from services.harvester.settings import HarvesterSettings
    from shared.contracts.intent import TrainingIntent


@dataclass(frozen=True)
class Order:
    """`wanted` are the ids that the intent's query found; None: it has no query."""

    persona: str
    intent: TrainingIntent
    policy: HarvestPolicy
    settings: HarvesterSettings
    wanted: list[str] | None
    suites: Path
    database: str = ""  #: where processes of their own find the same database; without it there are none
