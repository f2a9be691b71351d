"""A ritual at a stage of GPU work, without the services before it: its facts are recorded by the test."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

from shared.contracts.evacuate import GpuEvacuated
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact
from shared.jobs.gpu_stage import GpuStage
from shared.ritual import lease, ledger
from shared.ritual.ledger import Ritual
from shared.storage.postgres import Pool

ANVIL = "anvil0"
JOB_S = 30
LEASE_S = 60


async def harvested(pool: Pool, persona: str = "scribe", intent: str = "one", **asked: Any) -> UUID:
    """A ritual that waits for the anvil; `asked` are fields of its intent."""
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, TrainingIntent(persona=persona, **asked), intent, None)
    counts = {"train": 1, "dev": 1, "held_out": 1, "seen": 3}
    fact = KarmaHarvested(
        ritual=ritual, persona=persona, manifest="sha256:m", holdout="sha256:h", excluded={}, **counts
    )
    await state(pool, fact)
    return ritual


async def evacuated(pool: Pool, ritual: UUID, attempt: int = 1) -> int:
    """Give the ritual the anvil for this attempt; returns the fence."""
    fence = await lease.acquire(pool, ANVIL, ritual, attempt, LEASE_S)
    assert fence
    memory = {"memory_before": 9, "memory_after": 0}
    fact = GpuEvacuated(
        ritual=ritual, persona="scribe", attempt=attempt, anvil=ANVIL, fence=fence, device="CPU", **memory
    )
    await state(pool, fact)
    return fence


async def state(pool: Pool, fact: Fact) -> None:
    async with pool.acquire() as conn, conn.transaction():
        assert await ledger.record_fact(conn, fact, "harvester", datetime.now(UTC))


async def reconcile_until_moved(stage: GpuStage, ritual: UUID) -> Ritual:
    """Make passes until the stage has recorded a fact about the ritual."""
    deadline = monotonic() + JOB_S
    while monotonic() < deadline:
        await stage.reconcile()
        found = await ledger.get_ritual(stage.context.pool, ritual)
        assert found
        if found.state is not stage.state:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"ritual {ritual} did not move")
