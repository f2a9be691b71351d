"""The hand-over of the anvil on a real ledger: to the ritual whose turn it is, and back, with its receipts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from services.orchestrator.anvil import Anvil
from services.orchestrator.steps import Step
from shared.contracts.evacuate import GpuEvacuated, GpuRestored
from shared.contracts.forge import AdapterFailed
from shared.contracts.ritual import State
from shared.ritual import lease, ledger
from shared.runtime.context import ServiceContext
from tests.support.anvils import MIB, FakeRune, an_anvil, anvil, checks, context, rune, state_of
from tests.support.orchestrated import harvested

__all__ = ["anvil", "context", "rune"]  # the fixtures


async def test_a_free_serving_anvil_is_evacuated_for_the_ritual_that_waits(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")

    await checks(anvil, 2)

    assert await state_of(context.pool, ritual) is State.EVACUATED
    assert rune.done == ["free_memory"]
    fact = await ledger.get_fact(context.pool, ritual, GpuEvacuated)
    assert fact
    assert (fact.memory_before, fact.memory_after) == (900 * MIB, 0)
    announced = await context.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.suspended'")
    assert announced == 1


async def test_when_the_gpu_work_ends_inference_is_restored_with_its_receipt(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    await asyncio.sleep(0.05)
    assert await context.record(AdapterFailed(ritual=ritual, persona="scribe", reason="broken"), datetime.now(UTC))

    await checks(anvil, 3)

    assert rune.up
    restored = await ledger.get_fact(context.pool, ritual, GpuRestored)
    assert restored
    assert 0.05 <= restored.seconds_without_inference < 30
    assert await context.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.resumed'") == 1


async def test_an_expired_lease_is_another_attempt_after_the_holder_is_proven_gone(
    anvil: Anvil, context: ServiceContext
) -> None:
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    await context.pool.execute("UPDATE lease SET expires_at = clock_timestamp() - interval '1 second'")

    await checks(anvil, 1)
    found = await ledger.get_ritual(context.pool, ritual)
    assert found
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    await checks(anvil, 4)

    held = await lease.get_lease(context.pool, "anvil0")
    assert held
    assert (held.attempt, held.fence) == (2, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_of_several_the_most_urgent_then_the_oldest_goes_first_and_the_others_wait(
    anvil: Anvil, context: ServiceContext
) -> None:
    old, urgent, late = [
        await harvested(context.settings, name, priority) for name, priority in (("old", 5), ("urgent", 9), ("late", 5))
    ]

    await checks(anvil, 2)
    assert await state_of(context.pool, urgent) is State.EVACUATED
    assert await state_of(context.pool, old) is await state_of(context.pool, late) is State.HARVESTED
    await context.record(AdapterFailed(ritual=urgent, persona="scribe", reason="broken"), datetime.now(UTC))
    await checks(anvil, 5)

    assert await state_of(context.pool, old) is State.EVACUATED


async def test_a_ritual_cancelled_while_it_waits_never_touches_the_anvil(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")
    await ledger.request_cancel(context.pool, ritual, "no longer wanted")

    await checks(anvil, 2)

    assert await state_of(context.pool, ritual) is State.CANCELLED
    assert rune.done == []


async def test_a_ritual_cancelled_while_another_holds_the_anvil_ends_at_once(
    anvil: Anvil, context: ServiceContext
) -> None:
    holder, other = await harvested(context.settings, "one", 9), await harvested(context.settings, "two")
    await checks(anvil, 2)
    await ledger.request_cancel(context.pool, other, "no longer wanted")

    await checks(anvil, 1)

    assert await state_of(context.pool, other) is State.CANCELLED
    assert await state_of(context.pool, holder) is State.EVACUATED


async def test_an_evacuation_cut_short_anywhere_is_taken_up_again(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(context.settings, "one")

    async def crash() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rune, "gone", crash)
    with pytest.raises(KeyboardInterrupt):
        await checks(anvil, 2)
    monkeypatch.undo()
    assert await state_of(context.pool, ritual) is State.HARVESTED

    await checks(an_anvil(context, rune), 1)

    assert await state_of(context.pool, ritual) is State.EVACUATED
    assert await context.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.suspended'") == 1
    assert await ledger.get_fact(context.pool, ritual, GpuEvacuated)


async def test_every_step_of_a_hand_over_is_on_record_and_in_the_trace(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    rune.busy = 3
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    await context.record(AdapterFailed(ritual=ritual, persona="scribe", reason="broken"), datetime.now(UTC))
    await checks(anvil, 1)

    rows = await context.pool.fetch("SELECT step, ended_at FROM hand_over_step ORDER BY began_at")
    queues = {Step.HOLD, Step.DRAIN_QUEUE, Step.RELEASE}
    assert [row["step"] for row in rows] == [step for step in Step if step not in queues]
    assert all(row["ended_at"] for row in rows)
    there = await ledger.get_fact(context.pool, ritual, GpuEvacuated)
    back = await ledger.get_fact(context.pool, ritual, GpuRestored)
    assert there
    assert back
    assert there.aborted == 3
    assert {"close.rune", "drain.rune", "prove"} <= {span.name for span in there.spans}
    assert {"take-back", "start.rune", "compare.rune"} <= {span.name for span in back.spans}
    assert back.probes_equal is True
    assert back.memory_restored == 900 * MIB
