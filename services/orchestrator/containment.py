"""Containment: an anvil that does not come back is kept from rituals, loudly, until it serves again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from services.orchestrator import store
from shared.contracts.evacuate import GpuContained
from shared.metrics import CONTAINED
from shared.outbox import enqueue

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil

log = structlog.get_logger()
LOOKS_PER_FAILURE = 3  # a look that fails comes again at once, a rune that fails does not


async def contain(anvil: Anvil, reason: str, failures: int, until_accepted: bool = False) -> None:
    """Keep the anvil from rituals; said once for as long as it lasts. `until_accepted`: serving alone does not end it."""
    CONTAINED.labels(anvil.name).set(1)
    async with anvil.station.pool.acquire() as conn, conn.transaction():
        if await store.record_containment(conn, anvil.name, reason, failures, until_accepted):
            alarm = GpuContained(anvil=anvil.name, reason=reason, failures=failures)
            await enqueue(conn, alarm, uuid4(), {})
            log.error("anvil contained", anvil=anvil.name, failures=failures, reason=reason)


async def lift(anvil: Anvil) -> None:
    """It serves again."""
    if reason := await store.delete_containment(anvil.station.pool, anvil.name, accepted=False):
        log.warning("anvil serves again, containment lifted", anvil=anvil.name, was=reason)
    if await store.get_containment(anvil.station.pool, anvil.name) is None:
        CONTAINED.labels(anvil.name).set(0)


async def accept(anvil: Anvil, why: str) -> None:
    """Somebody says that the anvil is well as it is."""
    if reason := await store.delete_containment(anvil.station.pool, anvil.name, accepted=True):
        CONTAINED.labels(anvil.name).set(0)
        log.warning("containment lifted by its owner", anvil=anvil.name, was=reason, why=why)


async def looked_in_vain(anvil: Anvil, error: Exception) -> None:
    """A look that failed on the outside world (an engine or a device away) counts like a rune that failed."""
    count = await store.record_rune_failure(anvil.station.pool, anvil.name, "", str(error))
    log.error("anvil cannot be looked after", anvil=anvil.name, failures_in_a_row=count, error=str(error))
    if count >= anvil.own.contain_after * LOOKS_PER_FAILURE:
        await contain(anvil, str(error), count)
