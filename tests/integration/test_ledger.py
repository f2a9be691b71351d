"""The laws of state on a real PostgreSQL: compare-and-set, one effect per fact, fences, leases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted, GpuRestored
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact, ritual_id
from shared.contracts.ritual import State
from shared.ritual import lease, ledger
from shared.storage.postgres import Pool
from tests.support.clock import step_clock
from tests.support.facts import TRAINING

ANVIL = "anvil0"


@pytest.fixture
def pool(admin: Pool) -> Pool:
    """The ledger for every service in turn."""
    return admin


async def opened(pool: Pool, intent_id: str = "one") -> UUID:
    async with pool.acquire() as conn, conn.transaction():
        return await ledger.open_ritual(conn, TrainingIntent(persona="scribe"), intent_id, None)


async def state(pool: Pool, fact: Fact, fence: int | None = None) -> bool:
    async with pool.acquire() as conn, conn.transaction():
        return await ledger.record_fact(conn, fact, "harvester", datetime.now(UTC), fence)


async def row(pool: Pool, ritual: UUID) -> ledger.Ritual:
    found = await ledger.get_ritual(pool, ritual)
    assert found
    return found


def harvested(ritual: UUID) -> KarmaHarvested:
    return KarmaHarvested(
        ritual=ritual,
        persona="scribe",
        manifest="sha256:m",
        holdout="sha256:h",
        train=1,
        dev=1,
        held_out=1,
        seen=3,
        excluded={},
    )


def evacuated(ritual: UUID, fence: int, attempt: int = 1) -> GpuEvacuated:
    return GpuEvacuated(
        ritual=ritual,
        persona="scribe",
        attempt=attempt,
        anvil=ANVIL,
        fence=fence,
        memory_before=9,
        memory_after=0,
        device="CPU",
    )


def forged(ritual: UUID, fence: int) -> AdapterForged:
    return AdapterForged(
        ritual=ritual,
        persona="scribe",
        adapter="sha256:a",
        path="/a",
        base="sha256:b",
        recipe="default",
        fence=fence,
        training=TRAINING,
    )


async def count(pool: Pool, query: str) -> int:
    return int(await pool.fetchval(f"SELECT count(*) FROM {query}"))


async def test_the_same_intent_id_opens_one_ritual(pool: Pool) -> None:
    first, second = await opened(pool), await opened(pool)

    assert first == second == ritual_id("one")
    assert await count(pool, "ritual") == 1


async def test_a_fact_stated_by_many_at_once_has_one_effect(pool: Pool) -> None:
    ritual = await opened(pool)

    stated = await asyncio.gather(*(state(pool, harvested(ritual)) for _ in range(8)))

    assert sorted(stated) == [False] * 7 + [True]
    assert await count(pool, "outbox") == await count(pool, "ritual_fact") == 1


async def test_a_fact_that_does_not_lead_from_the_state_changes_nothing(pool: Pool) -> None:
    ritual = await opened(pool)
    await state(pool, harvested(ritual))

    assert not await state(pool, KarmaRefused(ritual=ritual, persona="scribe", reason="late"))
    found = await ledger.get_ritual(pool, ritual)
    assert found
    assert (found.state, found.version) == (State.HARVESTED, 1)


async def test_a_holder_with_an_old_fence_cannot_write(pool: Pool) -> None:
    ritual = await opened(pool)
    await state(pool, harvested(ritual))
    fence = await lease.acquire(pool, ANVIL, ritual, 1, 60)
    assert fence
    assert await state(pool, evacuated(ritual, fence), fence)

    assert not await state(pool, forged(ritual, fence - 1), fence - 1)
    assert await state(pool, forged(ritual, fence), fence)


async def test_a_holder_whose_lease_expired_cannot_write_or_renew(pool: Pool) -> None:
    ritual = await opened(pool)
    await state(pool, harvested(ritual))
    fence = await lease.acquire(pool, ANVIL, ritual, 1, 0.05)
    assert fence
    await asyncio.sleep(0.1)

    assert not await state(pool, evacuated(ritual, fence), fence)
    assert not (await lease.renew(pool, ANVIL, fence, 60)).held


async def test_an_expired_lease_is_not_free_until_it_is_released(pool: Pool) -> None:
    first, second = await opened(pool, "one"), await opened(pool, "two")
    fence = await lease.acquire(pool, ANVIL, first, 1, 0.05)
    assert fence
    await asyncio.sleep(0.1)

    assert await lease.acquire(pool, ANVIL, second, 1, 60) is None
    held = await lease.get_lease(pool, ANVIL)
    assert held
    assert not held.live
    assert await lease.release(pool, ANVIL, fence)
    assert await lease.acquire(pool, ANVIL, second, 1, 60) == fence + 1


@pytest.mark.parametrize("step_s", [3600, -3600])
async def test_a_lease_does_not_outlive_a_step_of_the_clock(pool: Pool, step_s: int) -> None:
    """A step of the database's clock is one of its times the other way."""
    ritual, next_ = await opened(pool, "one"), await opened(pool, "two")
    fence = await lease.acquire(pool, ANVIL, ritual, 1, 60)
    assert fence and await lease.get_live_lease(pool, ritual)

    await step_clock(pool, step_s)

    assert await lease.get_live_lease(pool, ritual) is None
    assert not (await lease.renew(pool, ANVIL, fence, 60)).held
    assert await lease.acquire(pool, ANVIL, next_, 1, 60) is None
    assert await lease.release(pool, ANVIL, fence)
    assert await lease.acquire(pool, ANVIL, next_, 1, 60) == fence + 1


async def test_of_many_who_want_the_anvil_one_gets_it(pool: Pool) -> None:
    rituals = [await opened(pool, str(number)) for number in range(6)]

    fences = await asyncio.gather(*(lease.acquire(pool, ANVIL, ritual, 1, 60) for ritual in rituals))

    assert len([fence for fence in fences if fence is not None]) == 1


async def test_interrupted_work_is_another_attempt_and_its_late_facts_are_ignored(pool: Pool) -> None:
    ritual = await opened(pool)
    await state(pool, harvested(ritual))
    await state(pool, evacuated(ritual, 1))

    assert await state(pool, GpuInterrupted(ritual=ritual, persona="scribe", reason="lost"))
    found = await ledger.get_ritual(pool, ritual)
    assert found
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    assert not await state(pool, forged(ritual, 1))
    assert await state(pool, evacuated(ritual, 2, attempt=2))


async def test_a_fact_is_read_back_as_its_class_and_the_latest_attempt_counts(pool: Pool) -> None:
    ritual = await opened(pool)
    assert await ledger.get_fact(pool, ritual, KarmaHarvested) is None
    await state(pool, harvested(ritual))
    assert await ledger.get_fact(pool, ritual, KarmaHarvested) == harvested(ritual)

    for attempt in (1, 2):
        fence = await lease.acquire(pool, ANVIL, ritual, attempt, 60)
        assert fence and await state(pool, evacuated(ritual, fence, attempt))
        await lease.release(pool, ANVIL, fence)
        await state(pool, GpuInterrupted(ritual=ritual, persona="scribe", attempt=attempt, reason="lost"))
    assert await ledger.get_fact(pool, ritual, GpuEvacuated) == evacuated(ritual, 2, 2)


async def test_restoration_is_recorded_whatever_became_of_the_ritual(pool: Pool) -> None:
    ritual = await opened(pool)
    await state(pool, harvested(ritual))
    restored = GpuRestored(ritual=ritual, persona="scribe", anvil=ANVIL, seconds_without_inference=1.5)

    assert await state(pool, restored)
    assert not await state(pool, restored)
    found = await ledger.get_ritual(pool, ritual)
    assert found
    assert found.state is State.HARVESTED


async def test_cancelling_flags_once_and_never_an_ended_ritual(pool: Pool) -> None:
    ritual, ended = await opened(pool, "one"), await opened(pool, "two")
    await state(pool, KarmaRefused(ritual=ended, persona="scribe", reason="none"))

    assert await ledger.request_cancel(pool, ritual, "changed my mind")
    assert not await ledger.request_cancel(pool, ritual, "again")
    assert not await ledger.request_cancel(pool, ended, "too late")


async def test_the_newest_of_pauses_and_resumes_counts_in_whatever_order_they_are_delivered(pool: Pool) -> None:
    ritual = await opened(pool)
    times = [datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in range(4)]

    assert await ledger.request_pause(pool, ritual, "night", times[0])
    assert await ledger.request_resume(pool, ritual, times[2])
    assert not await ledger.request_pause(pool, ritual, "night", times[0]), "delivered again"
    assert not await ledger.request_pause(pool, ritual, "earlier", times[1]), "delivered late"
    assert (await row(pool, ritual)).paused_at is None

    assert await ledger.request_pause(pool, ritual, "again", times[3])
    assert not await ledger.request_resume(pool, ritual, times[2])
    paused = await row(pool, ritual)
    assert paused.paused_at and paused.paused_why == "again"


async def test_only_a_ritual_that_still_needs_the_anvil_is_paused(pool: Pool) -> None:
    ended = await opened(pool)
    await state(pool, KarmaRefused(ritual=ended, persona="scribe", reason="none"))

    assert not await ledger.request_pause(pool, ended, "", datetime.now(UTC))
    assert not await ledger.request_resume(pool, ended, datetime.now(UTC))
    assert not await ledger.request_pause(pool, uuid4(), "", datetime.now(UTC))


async def test_the_time_of_a_pause_does_not_count_as_the_wait_of_a_ritual(pool: Pool) -> None:
    ritual = await opened(pool)
    await state(pool, harvested(ritual))
    before = await row(pool, ritual)

    await ledger.request_resume(pool, ritual, datetime.now(UTC))
    assert (await row(pool, ritual)).entered_at == before.entered_at, "it was not paused"
    await ledger.request_pause(pool, ritual, "", datetime.now(UTC))
    assert (await row(pool, ritual)).entered_at == before.entered_at
    await ledger.request_resume(pool, ritual, datetime.now(UTC))
    assert (await row(pool, ritual)).entered_at > before.entered_at


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("nonsense", None),
        (f"00-{'0' * 32}-{'0' * 16}-00", None),
    ],
)
async def test_a_ritual_joins_the_publisher_s_trace_only_where_it_is_a_valid_one(
    pool: Pool, traceparent: str, trace_id: str | None
) -> None:
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, TrainingIntent(persona="scribe"), "one", traceparent)

    found = await ledger.get_ritual(pool, ritual)
    assert found
    assert found.trace_id == (trace_id or ritual.hex)
