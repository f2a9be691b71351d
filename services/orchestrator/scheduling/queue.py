"""What a waiting ritual brings to the tipping point, how it ripens, and its place in the queue.

Law of the queue: a point of priority is worth `promote_after_s` of waiting. The place is therefore fixed at arrival, and
only what arrives within 9 · promote_after_s after a ritual can overtake it: every ritual comes first in the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import Field

from services.orchestrator.scheduling.decision import Foreign, Moment
from shared.configuration.model import TippingConfig
from shared.contracts.frozen import Frozen

USUAL_PRIORITY = 5  # that of an intent which names none


class Whim(Frozen):
    """What a waiting ritual wants."""

    ritual: UUID
    priority: int = Field(USUAL_PRIORITY, ge=0, le=9)
    since: Moment  #: since when it waits for the anvil
    weight: float = Field(0.0, ge=0, le=1e12, description="New karma: rows of the manifest.")
    deadline: Foreign | None = Field(None, description="When inference should serve again after it.")

    def waited_s(self, now: datetime) -> float:
        return max((now - self.since).total_seconds(), 0.0)


def order(whims: Iterable[Whim], promote_after_s: float) -> list[Whim]:
    """By priority, then age; who has waited `promote_after_s` longer goes before one point more of priority."""
    return sorted(whims, key=lambda whim: (place(whim, promote_after_s), whim.ritual))


def place(whim: Whim, promote_after_s: float) -> datetime:
    """The moment at which a ritual of priority 0 would have had to arrive to stand here."""
    return whim.since - timedelta(seconds=whim.priority * promote_after_s)


def ripeness(whim: Whim, now: datetime, config: TippingConfig) -> float:
    """How far the bar has come down: 0 at arrival, 1 where any load will do. Grows with age, priority and weight."""
    return min(whim.waited_s(now) / patience_s(whim, config), 1.0)


def patience_s(whim: Whim, config: TippingConfig) -> float:
    """The waiting after which any load will do: the configured one at priority 5 and without weight."""
    haste = (whim.priority + 1) / (USUAL_PRIORITY + 1) * (1 + min(whim.weight / config.heavy_from, 1.0))
    return config.patience_s / haste
