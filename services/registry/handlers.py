"""Handlers of the registry: facts that give it work, and recalls of karma that adapters were trained on."""

from __future__ import annotations

from services.registry import store
from shared.contracts.evacuate import GpuRestored
from shared.contracts.karma import KarmaRecalled
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterRegistered
from shared.contracts.verify import AdapterVerified
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("registry")


@router.consume(AdapterVerified, AdapterRegistered, GpuRestored)
async def wake(fact: Fact, service: InContext) -> None:
    service.wake()


@router.consume(KarmaRecalled)
async def karma_recalled(recall: KarmaRecalled, service: InContext) -> None:
    """Record which rituals are tainted; the reconciler acts on it."""
    async with service.pool.acquire() as conn, conn.transaction():
        await store.record_taint(conn, recall.rituals, recall.karma)
    service.wake()
