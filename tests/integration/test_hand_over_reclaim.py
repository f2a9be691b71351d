"""An anvil that is reclaimed: taken back where it was handed over, not handed over where it is being evacuated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from services.orchestrator.anvil import Anvil
from services.orchestrator.handlers import gpu_reclaim
from shared.contracts.evacuate import GpuInterrupted, GpuReclaim
from shared.contracts.ritual import State
from shared.ritual import lease, ledger
from shared.runtime.context import ServiceContext
from tests.support.anvils import FakeContainers, FakeRune, anvil, checks, context, rune, state_of
from tests.support.orchestrated import harvested

__all__ = ["anvil", "context", "rune"]  # the fixtures


def delivered(published_at: datetime | None = None) -> Any:
    """A message as the stream delivers it; published now unless it is delivered again."""
    metadata = SimpleNamespace(timestamp=published_at or datetime.now(UTC))
    return SimpleNamespace(raw_message=SimpleNamespace(metadata=metadata))


async def test_an_anvil_that_is_reclaimed_is_taken_back_and_the_ritual_waits_as_interrupted(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    jobs: FakeContainers = anvil.jobs  # type: ignore[assignment]
    jobs.running = ["trainer-1"]
    await gpu_reclaim(GpuReclaim(why="a guest asks", hold_s=3600), delivered(), context)

    await checks(anvil, 3)

    assert rune.up
    assert rune.open_
    assert jobs.stopped == {"trainer-1": anvil.settings.reclaim_grace_s}
    found = await ledger.get_ritual(context.pool, ritual)
    assert found
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    fact = await ledger.get_fact(context.pool, ritual, GpuInterrupted)
    assert fact
    assert fact.asked is True
    assert "a guest asks" in fact.reason
    assert await ledger.count_failures(context.pool, ritual) == 0
    reason = await context.pool.fetchval("SELECT reason FROM decision WHERE ritual = $1", ritual)
    assert "is reclaimed until" in reason

    await context.pool.execute("UPDATE reclaim SET until = clock_timestamp()")
    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_a_later_reclaim_shortens_an_earlier_one_or_ends_it(anvil: Anvil, context: ServiceContext) -> None:
    await harvested(context.settings, "one")
    for hold_s, least_s, most_s in ((7 * 24 * 3600, 604_000, 604_800), (600, 500, 600)):
        await gpu_reclaim(GpuReclaim(hold_s=hold_s), delivered(), context)
        left_s = await context.pool.fetchval(
            "SELECT extract(epoch FROM until - clock_timestamp())::float8 FROM reclaim"
        )
        assert least_s < left_s <= most_s

    await gpu_reclaim(GpuReclaim(hold_s=0), delivered(), context)
    await checks(anvil, 2)

    assert await lease.get_lease(context.pool, "anvil0") is not None


async def test_a_reclaim_that_is_delivered_again_neither_replaces_a_newer_one_nor_interrupts_another_ritual(
    anvil: Anvil, context: ServiceContext
) -> None:
    ritual = await harvested(context.settings, "one")
    week = GpuReclaim(hold_s=7 * 24 * 3600)
    first, second = (datetime.now(UTC) - timedelta(minutes=minutes) for minutes in (2, 1))
    await gpu_reclaim(week, delivered(first), context)
    await gpu_reclaim(GpuReclaim(hold_s=0), delivered(second), context)
    await gpu_reclaim(week, delivered(first), context)
    await checks(anvil, 4)
    assert await state_of(context.pool, ritual) is State.EVACUATED

    await gpu_reclaim(GpuReclaim(hold_s=0), delivered(second), context)
    await checks(anvil, 3)
    assert await ledger.get_fact(context.pool, ritual, GpuInterrupted) is None


async def test_a_reclaim_published_before_the_lease_and_recorded_after_it_ends_it(
    anvil: Anvil, context: ServiceContext
) -> None:
    ritual = await harvested(context.settings, "one")
    published = datetime.now(UTC)
    await checks(anvil, 4)
    assert await state_of(context.pool, ritual) is State.EVACUATED

    await gpu_reclaim(GpuReclaim(hold_s=3600), delivered(published), context)
    await checks(anvil, 3)

    assert await lease.get_lease(context.pool, "anvil0") is None


async def test_an_anvil_that_is_reclaimed_in_the_middle_of_its_evacuation_is_not_handed_over(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(context.settings, "one")

    async def demand(grace_s: float = 0.0) -> int:
        await gpu_reclaim(GpuReclaim(why="now", hold_s=3600), delivered(), context)
        return 0

    monkeypatch.setattr(rune, "drain", demand)
    await checks(anvil, 4)

    assert await state_of(context.pool, ritual) is State.HARVESTED
    assert rune.up
    assert rune.open_
    assert await lease.get_lease(context.pool, "anvil0") is None


async def test_a_reclaim_from_before_the_lease_does_not_end_it(anvil: Anvil, context: ServiceContext) -> None:
    ritual = await harvested(context.settings, "one")
    await gpu_reclaim(GpuReclaim(why="earlier", hold_s=0), delivered(), context)

    await checks(anvil, 4)

    assert await state_of(context.pool, ritual) is State.EVACUATED
