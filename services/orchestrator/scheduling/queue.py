"""The queue of waiting rituals: their order, and how waiting lowers the bar for the load (aging).

A point of priority is worth `promote_after_s` of waiting. The place in the queue is therefore fixed at arrival, and only
what arrives within 9 · promote_after_s after a ritual can overtake it: every ritual comes first in the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import Field

from services.orchestrator.scheduling.decision import ClampedMoment, Moment
from shared.config.tipping import TippingConfig
from shared.contracts.frozen import Frozen

DEFAULT_PRIORITY = 5  # of an intent that gives none


class QueuedRitual(Frozen):
    """A ritual that waits for the anvil."""

    id: UUID
    priority: int = Field(DEFAULT_PRIORITY, ge=0, le=9)
    since: Moment  #: when it began to wait
    weight: float = Field(0.0, ge=0, le=1e12, description="New karma: rows of the manifest.")
    deadline: ClampedMoment | None = Field(None, description="When inference should serve again after it.")

    def waited_s(self, now: datetime) -> float:
        return max((now - self.since).total_seconds(), 0.0)


def ordered(rituals: Iterable[QueuedRitual], promote_after_s: float) -> list[QueuedRitual]:
    """Sort by priority, then age; `promote_after_s` more of waiting outweighs one point of priority."""
    return sorted(rituals, key=lambda ritual: (_place(ritual, promote_after_s), ritual.id))


def _place(ritual: QueuedRitual, promote_after_s: float) -> datetime:
    """The moment at which a ritual of priority 0 with the same place would have arrived."""
    return ritual.since - timedelta(seconds=ritual.priority * promote_after_s)


def aging(ritual: QueuedRitual, now: datetime, config: TippingConfig) -> float:
    """How far the bar has come down: 0 at arrival, 1 where any load is accepted. Grows with age, priority and weight."""
    return min(ritual.waited_s(now) / aged_after_s(ritual, config), 1.0)


def aged_after_s(ritual: QueuedRitual, config: TippingConfig) -> float:
    """The waiting after which any load is accepted: as configured at priority 5 and without weight."""
    speed = (ritual.priority + 1) / (DEFAULT_PRIORITY + 1) * (1 + min(ritual.weight / config.heavy_from, 1.0))
    return config.patience_s / speed
