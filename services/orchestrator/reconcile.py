"""Bring every anvil to what the rows require: held by the ritual that has the lease, or serving.

The order matters: a held anvil is dealt with first; a free one is restored; only a serving one is leased.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.orchestrator.containment import record_failed_check
from services.orchestrator.handover.restore import restore
from services.orchestrator.held import reconcile_held
from services.orchestrator.metrics import CONTAINED
from services.orchestrator.schedule import explain_wait, schedule
from shared.drivers.accelerators.port import AcceleratorError
from shared.drivers.containers.port import ContainerError
from shared.drivers.queues.port import QueueError
from shared.ritual import lease
from shared.storage.base_model import BaseError

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil

COUNTED_ERRORS = (ContainerError, AcceleratorError, QueueError, BaseError)  # of a driver, or of a rune's base


class Reconciler:
    """Checks each anvil in a task of its own: one that drains or starts an engine delays no other."""

    def __init__(self, anvils: tuple[Anvil, ...], interval_s: float) -> None:
        self._anvils = anvils
        self._interval_s = interval_s
        self._checks: dict[str, asyncio.Task[None]] = {}

    async def clean_up(self) -> None:
        """Stop what an earlier configuration left running; COUNTED_ERRORS are not raised."""
        for anvil in self._anvils:
            try:
                await anvil.stop_unknown_containers()
            except COUNTED_ERRORS as error:
                await _count_failure(anvil, error)

    async def reconcile(self) -> None:
        """Check every anvil that is not being checked; return after `interval_s` at the latest."""
        for anvil in self._anvils:
            if anvil.name not in self._checks:
                self._checks[anvil.name] = asyncio.create_task(check(anvil), name=f"check-{anvil.name}")
        done, _ = await asyncio.wait(self._checks.values(), timeout=self._interval_s)
        self._checks = {name: task for name, task in self._checks.items() if task not in done}
        for task in done:
            await task

    async def stop(self) -> None:
        """Cancel the running checks, before the connections that they use are closed."""
        for task in self._checks.values():
            task.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)


async def check(anvil: Anvil) -> None:
    """Check one anvil once; COUNTED_ERRORS are not raised, and too many in a row contain the anvil."""
    pool = anvil.context.pool
    try:
        if held := await lease.get_lease(pool, anvil.name):
            CONTAINED.labels(anvil.name).set(0)
            await reconcile_held(anvil, held)
        if await lease.get_lease(pool, anvil.name):
            return
        if await restore(anvil):
            await anvil.monitor.sample(anvil.runes)
            if anvil.trains:
                await schedule(anvil)
        elif anvil.trains:
            await explain_wait(anvil)
    except COUNTED_ERRORS as error:
        await _count_failure(anvil, error)


async def _count_failure(anvil: Anvil, error: Exception) -> None:
    await record_failed_check(anvil.context.pool, anvil.name, error, anvil.settings.contain_after)
