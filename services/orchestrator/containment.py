"""Containment: an anvil that repeatedly fails to serve is kept from rituals, with an alarm, until it serves again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from services.orchestrator import rune_failures, store
from services.orchestrator.metrics import CONTAINED
from shared.contracts.evacuate import GpuContained
from shared.messaging.outbox import enqueue
from shared.runtime.advance import describe

if TYPE_CHECKING:
    from shared.storage.postgres import Pool

log = structlog.get_logger()
CHECKS_PER_FAILURE = 3  # a check that fails is repeated at once, a rune that fails is not


async def contain(pool: Pool, anvil: str, reason: str, failures: int, until_accepted: bool = False) -> None:
    """Keep rituals from the anvil; the alarm is sent once. `until_accepted`: serving alone does not end it."""
    CONTAINED.labels(anvil).set(1)
    async with pool.acquire() as conn, conn.transaction():
        if await store.record_containment(conn, anvil, reason, failures, until_accepted):
            await enqueue(conn, GpuContained(anvil=anvil, reason=reason, failures=failures), uuid4(), {})
            log.error("anvil contained", anvil=anvil, failures=failures, reason=reason)


async def lift(pool: Pool, anvil: str) -> None:
    """End the containment of an anvil that serves again, except one that waits for acceptance."""
    if reason := await store.delete_containment(pool, anvil, accepted=False):
        log.warning("anvil serves again, containment lifted", anvil=anvil, was=reason)
    if await store.get_containment(pool, anvil) is None:
        CONTAINED.labels(anvil).set(0)


async def accept(pool: Pool, anvil: str, why: str) -> None:
    """End the containment of an anvil whose owner accepts it as it is."""
    if reason := await store.delete_containment(pool, anvil, accepted=True):
        CONTAINED.labels(anvil).set(0)
        log.warning("containment lifted by its owner", anvil=anvil, was=reason, why=why)


async def record_failed_check(pool: Pool, anvil: str, error: Exception, contain_after: int) -> None:
    """Count a check that failed (a container engine, a device or a base is missing) like a failed rune."""
    reason = describe(error)
    count = await rune_failures.record_failure(pool, anvil, "", reason)
    log.error("check of the anvil failed", anvil=anvil, failures=count, error=reason)
    if count >= contain_after * CHECKS_PER_FAILURE:
        await contain(pool, anvil, reason, count)
