"""A paused ritual: it takes no anvil, leaves the one that it holds, and goes on from there once it is resumed."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from services.orchestrator.anvil import Anvil
from services.orchestrator.handlers import ritual_cancel, ritual_pause, ritual_resume
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.intent import RitualCancel, RitualPause, RitualResume
from shared.contracts.ritual import State
from shared.contracts.roles import Role
from shared.messaging.client import connect
from shared.ritual import lease, ledger
from shared.ritual.ledger import Ritual
from shared.runtime.context import ServiceContext
from tests.support.anvils import FakeContainers, FakeRune, anvil, checks, context, rune, state_of
from tests.support.orchestrated import harvested, orchestrated
from tests.support.servers import House

__all__ = ["anvil", "context", "rune"]  # the fixtures


def delivered() -> Any:
    """A message as the stream delivers it, published now."""
    return SimpleNamespace(raw_message=SimpleNamespace(metadata=SimpleNamespace(timestamp=datetime.now(UTC))))


async def pause(context: ServiceContext, ritual: UUID) -> None:
    await ritual_pause(RitualPause(ritual=ritual, why="the night", by="ida"), delivered(), context)


async def resume(context: ServiceContext, ritual: UUID) -> None:
    await ritual_resume(RitualResume(ritual=ritual), delivered(), context)


async def row(context: ServiceContext, ritual: UUID) -> Ritual:
    found = await ledger.get_ritual(context.pool, ritual)
    assert found
    return found


async def reason(context: ServiceContext, ritual: UUID) -> str:
    return str(await context.pool.fetchval("SELECT reason FROM decision WHERE ritual = $1", ritual))


async def test_a_ritual_that_is_paused_while_it_waits_takes_no_anvil_until_it_is_resumed(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")
    await pause(context, ritual)

    await checks(anvil, 3)

    assert await state_of(context.pool, ritual) is State.HARVESTED
    assert rune.done == []
    assert await reason(context, ritual) == "waits: it is paused: the night (by ida)"

    await resume(context, ritual)
    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_a_ritual_that_is_paused_at_its_work_leaves_the_anvil_to_others_and_continues_when_resumed(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    paused, other = await harvested(context.settings, "one", 9), await harvested(context.settings, "two")
    await checks(anvil, 2)
    jobs: FakeContainers = anvil.jobs  # type: ignore[assignment]
    jobs.running = ["trainer-1"]
    await pause(context, paused)

    await checks(anvil, 1)
    assert jobs.stopped == {"trainer-1": anvil.settings.reclaim_grace_s}
    assert rune.up and rune.open_
    found = await row(context, paused)
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    fact = await ledger.get_fact(context.pool, paused, GpuInterrupted)
    assert fact and fact.asked and fact.reason == "the ritual was paused: the night (by ida)"
    assert await ledger.count_failures(context.pool, paused) == 0

    await checks(anvil, 2)
    assert await state_of(context.pool, other) is State.EVACUATED, "although it is less urgent"
    assert await state_of(context.pool, paused) is State.HARVESTED

    await resume(context, paused)
    await ritual_cancel(RitualCancel(ritual=other), context)
    await context.record_cancelled(await row(context, other))
    await checks(anvil, 4)
    found = await row(context, paused)
    assert (found.state, found.attempt) == (State.EVACUATED, 2)


async def test_a_ritual_that_is_paused_in_the_middle_of_its_evacuation_does_not_get_the_anvil(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(context.settings, "one")

    async def drain(grace_s: float = 0.0) -> int:
        await pause(context, ritual)
        return 0

    monkeypatch.setattr(rune, "drain", drain)
    await checks(anvil, 4)

    found = await row(context, ritual)
    assert (found.state, found.attempt) == (State.HARVESTED, 1)
    assert rune.up and rune.open_
    assert await lease.get_lease(context.pool, "anvil0") is None


@pytest.mark.parametrize("at_work", [False, True])
async def test_a_paused_ritual_that_is_cancelled_ends(anvil: Anvil, context: ServiceContext, at_work: bool) -> None:
    ritual = await harvested(context.settings, "one")
    if at_work:
        await checks(anvil, 2)
    await pause(context, ritual)
    await checks(anvil, 2)

    await ritual_cancel(RitualCancel(ritual=ritual), context)
    await checks(anvil, 2)

    assert await state_of(context.pool, ritual) is State.CANCELLED


async def test_a_paused_ritual_waits_for_its_pause_also_where_the_anvil_does_not_serve(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")
    await pause(context, ritual)
    rune.up, rune.fails = False, True

    await checks(anvil, 2)

    assert not rune.up
    assert "it is paused" in await reason(context, ritual)


async def test_pause_and_resume_reach_the_orchestrator_over_the_bus(house: House, tmp_path: Any) -> None:
    async with orchestrated(house.settings, tmp_path) as one:
        one.configure()
        one.fail()
        await one.start()
        ritual = await one.harvested()

        async def taken() -> bool:
            return await one.state(ritual) == State.EVACUATED

        async def left() -> bool:
            return await one.state(ritual) == State.HARVESTED and await one.serves()

        await one.eventually(taken, 40, "the ritual has the anvil")
        client = await connect(house.settings, Role.GATEWAY)
        jetstream = client.jetstream()
        command = RitualPause(ritual=ritual, by="a key")
        await jetstream.publish(command.subject, command.model_dump_json().encode())
        await one.eventually(left, 40, "inference is back")
        await jetstream.publish(RitualResume.subject, RitualResume(ritual=ritual).model_dump_json().encode())
        await one.eventually(taken, 40, "the ritual has the anvil again")
        await client.close()

        found = await ledger.get_ritual(one.pool, ritual)
        assert found and found.attempt == 2
