"""Tells how far a harvest is: on the bus for whoever watches, and to the health check that it goes on."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from shared.contracts.intent import RitualProgress

if TYPE_CHECKING:
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

TELL_S = 1.0


class Teller:
    """Of one harvest; tells at most every TELL_S."""

    def __init__(self, context: ServiceContext, ritual: Ritual) -> None:
        self._context, self._ritual = context, ritual
        self._told_at = 0.0
        self._telling: asyncio.Task[None] | None = None

    def hear(self, phase: str, done: int, total: int) -> None:
        self._context.reconciled_at = monotonic()
        if monotonic() - self._told_at < TELL_S:
            return
        self._told_at = monotonic()
        progress = RitualProgress(
            ritual=self._ritual.id,
            persona=self._ritual.persona,
            job="harvest",
            phase=phase,
            done=done,
            total=total,
            unit="records",
        )
        self._telling = asyncio.create_task(
            self._context.nats.publish(RitualProgress.subject, progress.model_dump_json().encode())
        )
