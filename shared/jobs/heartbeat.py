"""The watchdog of a stage that holds the anvil: renews its lease, and ends its jobs when that fails.

A job whose lease may have run out must not touch the anvil: it is killed here before the time is over, and the
orchestrator kills it again before anything else is granted.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from shared.ritual import lease, ledger
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from shared.contracts.ritual import State
    from shared.drivers.containers.port import Containers
    from shared.ritual.ledger import Ritual
    from shared.runtime.service import ServiceContext

log = structlog.get_logger()

RENEWALS_PER_TTL = 6
PATIENCE = 2 / 3  # share of the lease's life after which an unrenewed job is killed


async def renew_leases(context: ServiceContext, containers: Containers, state: State, role: str) -> None:
    """Renew for every ritual in `state` that holds the anvil; runs as long as the service."""
    ttl_s = context.settings.lease_ttl_s
    renewed_at = monotonic()
    while True:
        try:
            for ritual in await ledger.waiting(context.pool, state):
                await _renew(context, containers, ritual, role)
            renewed_at = monotonic()
        except UNREACHABLE:
            if monotonic() - renewed_at > ttl_s * PATIENCE:
                await _kill(
                    containers, {"role": role, "anvil": context.configuration.forge}, "the lease cannot be renewed"
                )
        await asyncio.sleep(ttl_s / RENEWALS_PER_TTL)


async def _renew(context: ServiceContext, containers: Containers, ritual: Ritual, role: str) -> None:
    held = await lease.held_by(context.pool, ritual.id)
    labels = {"role": role, "ritual": str(ritual.id)}
    # A stage that never gets its job started must not keep the anvil: its lease is left to run out.
    if held and not await containers.list({**labels, "fence": str(held.fence)}):
        return
    renewal = held and await lease.renew(context.pool, held.anvil, held.fence, context.settings.lease_ttl_s)
    if renewal and renewal.cancelled:
        context.wake()
    if not renewal or not renewal.held:
        await _kill(containers, labels, "the lease is lost")


async def _kill(containers: Containers, labels: dict[str, str], why: str) -> None:
    for info in await containers.list(labels):
        if info.finished_at is None:
            log.warning("job killed", container=info.name, why=why)
            await containers.kill(info.name)
