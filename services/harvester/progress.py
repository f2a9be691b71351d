"""Report how far a harvest is: on the bus to those who watch, and to the health check."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from shared.contracts.intent import RitualProgress

if TYPE_CHECKING:
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

INTERVAL_S = 1.0


class ProgressReporter:
    """Reports the progress of one harvest, at most every INTERVAL_S."""

    def __init__(self, context: ServiceContext, ritual: Ritual) -> None:
        self._context, self._ritual = context, ritual
        self._reported_at = 0.0
        self._publishing: asyncio.Task[None] | None = None

    def report(self, phase: str, done: int, total: int) -> None:
        self._context.reconciled_at = monotonic()
        if monotonic() - self._reported_at < INTERVAL_S:
            return
        self._reported_at = monotonic()
        progress = RitualProgress(
            ritual=self._ritual.id,
            persona=self._ritual.persona,
            job="harvest",
            phase=phase,
            done=done,
            total=total,
            unit="records",
        )
        self._publishing = asyncio.create_task(
            self._context.nats.publish(RitualProgress.subject, progress.model_dump_json().encode())
        )
