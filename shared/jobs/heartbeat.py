"""The lease heartbeat of a stage that holds the anvil: renews its lease, and ends its jobs when that fails.

A job whose lease may have expired must not use the anvil: it is killed here before the lease expires, and the
orchestrator kills it again before it leases the anvil to another ritual.
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING

import structlog

from shared.drivers.containers.port import ContainerState
from shared.ritual import lease, ledger
from shared.runtime.loops import Loop

if TYPE_CHECKING:
    from shared.contracts.ritual import State
    from shared.drivers.containers.port import ContainerInfo, Containers
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()

RENEWALS_PER_TTL = 6
KILL_AFTER = 2 / 3  # share of the lease's life after which an unrenewed job is killed
CONCLUDE_WITHIN_S = 120.0  # the time that the end of a job may take to be recorded


def lease_heartbeat(context: ServiceContext, containers: Containers, state: State, role: str) -> Loop:
    """The loop that renews the lease of every ritual in `state` while its job runs."""
    heartbeat = Heartbeat(context, containers, state, role)
    return Loop("lease-heartbeat", heartbeat.beat, context.configuration.runtime.lease_ttl_s / RENEWALS_PER_TTL)


class Heartbeat:
    """Renews the leases of one stage; `beat` is one pass."""

    def __init__(self, context: ServiceContext, containers: Containers, state: State, role: str) -> None:
        self._context, self._containers = context, containers
        self._state, self._role = state, role
        self._renewed_at = monotonic()

    async def beat(self) -> None:
        failed: list[Exception] = []
        try:
            for ritual in await ledger.list_rituals(self._context.pool, self._state):
                try:
                    await self._renew(ritual)
                except Exception as error:
                    failed.append(error)
        except Exception as error:
            failed.append(error)
        if not failed:
            self._renewed_at = monotonic()
            return
        if monotonic() - self._renewed_at > self._context.configuration.runtime.lease_ttl_s * KILL_AFTER:
            labels = {"role": self._role, "anvil": self._context.configuration.forge}
            await self._kill(labels, "the lease cannot be renewed")
        raise failed[0]

    async def _renew(self, ritual: Ritual) -> None:
        held = await lease.get_live_lease(self._context.pool, ritual.id)
        labels = {"role": self._role, "ritual": str(ritual.id)}
        # A stage that cannot start its job, or cannot conclude it, must not keep the anvil: its lease is left to expire.
        if held and not any(map(is_at_work, await self._containers.list({**labels, "fence": str(held.fence)}))):
            return
        ttl_s = self._context.configuration.runtime.lease_ttl_s
        renewal = held and await lease.renew(self._context.pool, held.anvil, held.fence, ttl_s)
        if renewal and renewal.cancelled:
            self._context.wake()
        if not renewal or not renewal.held:
            await self._kill(labels, "the lease is lost")

    async def _kill(self, labels: dict[str, str], why: str) -> None:
        for info in await self._containers.list(labels):
            if info.finished_at is None:
                log.warning("job killed", container=info.name, why=why)
                await self._containers.kill(info.name)


def is_at_work(job: ContainerInfo) -> bool:
    """Whether a job runs, or ended so recently that its end may still be recorded."""
    return job.state is ContainerState.RUNNING or (job.finished_at or 0.0) > time() - CONCLUDE_WITHIN_S
