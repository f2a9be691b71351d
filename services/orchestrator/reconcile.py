"""Bring every anvil to what the rows require: held by the ritual that has the lease, or serving.

The order matters: a held anvil is dealt with first; a free one is restored; only a serving one is leased.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from services.orchestrator.containment import record_failed_check
from services.orchestrator.handover.restore import restore
from services.orchestrator.held import interrupt_without_lease, reconcile_held
from services.orchestrator.metrics import CONTAINED
from services.orchestrator.schedule import end_cancelled, explain_wait, schedule
from shared.drivers.accelerators.port import AcceleratorError
from shared.drivers.containers.port import ContainerError
from shared.drivers.queues.port import QueueError
from shared.ritual import lease
from shared.runtime.advance import describe, is_shared
from shared.storage.base_model import BaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from services.orchestrator.anvil import Anvil

NAMED_ERRORS = (ContainerError, AcceleratorError, QueueError, BaseError)  # of a driver, or of a rune's base

log = structlog.get_logger()


class Reconciler:
    """Checks each anvil in a task of its own: one that drains or starts an engine delays no other."""

    def __init__(self, anvils: tuple[Anvil, ...], interval_s: float) -> None:
        self._anvils = anvils
        self._interval_s = interval_s
        self._checks: dict[str, asyncio.Task[None]] = {}

    async def clean_up(self) -> None:
        """Stop what an earlier configuration left running; an error is counted like that of a check."""
        for anvil in self._anvils:
            await _counted(anvil, anvil.stop_unknown_containers())

    async def reconcile(self) -> None:
        """Check every anvil that is not being checked; return after `interval_s` at the latest."""
        for anvil in self._anvils:
            if anvil.name not in self._checks:
                self._checks[anvil.name] = asyncio.create_task(check(anvil), name=f"check-{anvil.name}")
        done, _ = await asyncio.wait(self._checks.values(), timeout=self._interval_s)
        self._checks = {name: task for name, task in self._checks.items() if task not in done}

    async def stop(self) -> None:
        """Cancel the running checks, before the connections that they use are closed."""
        for task in self._checks.values():
            task.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)


async def check(anvil: Anvil) -> None:
    """Check one anvil once. Its error is logged and counted, and too many in a row contain the anvil."""
    await _counted(anvil, _enforce(anvil))


async def _enforce(anvil: Anvil) -> None:
    pool = anvil.context.pool
    held = await lease.get_lease(pool, anvil.name)
    if anvil.trains:
        await end_cancelled(anvil, held.ritual if held else None)
    if held:
        CONTAINED.labels(anvil.name).set(0)
        await reconcile_held(anvil, held)
    if await lease.get_lease(pool, anvil.name):
        return
    if anvil.trains:
        await interrupt_without_lease(anvil)
    if await restore(anvil):
        await anvil.monitor.sample(anvil.runes)
        if anvil.trains:
            await schedule(anvil)
    elif anvil.trains:
        await explain_wait(anvil)


async def _counted(anvil: Anvil, work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        if is_shared(error):
            log.warning("check postponed", anvil=anvil.name, error=describe(error))
            return
        if not isinstance(error, NAMED_ERRORS):
            log.exception("check met an unexpected error", anvil=anvil.name)
        try:
            await record_failed_check(anvil.context.pool, anvil.name, error, anvil.settings.contain_after)
        except Exception as uncounted:
            log.warning("failed check not counted", anvil=anvil.name, error=describe(uncounted))
