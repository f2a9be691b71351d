"""Runes that do not go as they should: each hand-over ends restored, or contained with an alarm, never on an occupied device."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from services.gateway.app import app
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.evacuate import GpuEvacuated, GpuRefused, GpuRestored
from tests.support.load import End, live_load
from tests.support.orchestrated import RUNE, Orchestrated, orchestrated
from tests.support.servers import House
from tests.support.services import running

pytestmark = pytest.mark.timeout(180)
MIB = 1024**2


@pytest.fixture
async def one(house: House, tmp_path: Path) -> AsyncIterator[Orchestrated]:
    async with orchestrated(house.settings, tmp_path) as one:
        one.configure()
        yield one


@pytest.fixture
async def behind_a_gateway(house: House, tmp_path: Path) -> AsyncIterator[Orchestrated]:
    async with orchestrated(house.settings, tmp_path, gateway=True) as one:
        yield one


async def up(one: Orchestrated, **faults: object) -> None:
    one.fail(**faults)
    await one.start()
    await one.eventually(one.serves, 30, "the rune serves")


async def reaches(one: Orchestrated, ritual: UUID, state: str) -> None:
    async def there() -> bool:
        return await one.state(ritual) == state

    await one.eventually(there, 40, f"the ritual is {state}")


async def restored(one: Orchestrated, ritual: UUID) -> None:
    await one.end(ritual)
    await one.eventually(one.serves, 40, "inference serves again")


async def alarms(one: Orchestrated) -> int:
    count: int = await one.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'gpu.contained'")
    return count


async def test_a_rune_that_ignores_sigterm_is_killed_and_comes_back(one: Orchestrated) -> None:
    await up(one, ignore_sigterm=True)
    ritual = await one.harvested()

    await reaches(one, ritual, "evacuated")
    assert await one.containers.memory_bytes(RUNE) == 0
    await restored(one, ritual)


async def test_a_child_that_survives_its_rune_is_ended_before_the_anvil_is_given_away(one: Orchestrated) -> None:
    await up(one, child_mib=300, child_detached=True)

    async def taken() -> bool:
        return await one.containers.memory_bytes(RUNE) > 300 * MIB

    await one.eventually(taken, 30, "the child took its memory")
    ritual = await one.harvested()

    await reaches(one, ritual, "evacuated")
    fact = await one.fact(ritual, GpuEvacuated)
    assert fact
    assert fact.memory_before > 300 * MIB
    assert fact.memory_after == 0
    await restored(one, ritual)


async def test_a_rune_that_comes_back_by_itself_is_gone_when_the_ritual_gets_the_anvil(one: Orchestrated) -> None:
    await up(one, respawn=True)
    ritual = await one.harvested()

    await reaches(one, ritual, "evacuated")
    assert not await one.rune.healthy()
    await restored(one, ritual)


async def test_a_rune_that_exits_by_itself_is_started_again(one: Orchestrated) -> None:
    await up(one, exit_after_s=2.0)

    async def crashed() -> bool:
        return bool(await one.pool.fetchval("SELECT count FROM orchestrator.rune_failure WHERE rune = 'rune'"))

    await one.eventually(crashed, 20, "the rune crashed")
    one.fail()
    await one.eventually(one.serves, 40, "it serves again")


async def test_a_rune_that_keeps_its_memory_asleep_is_no_free_anvil(one: Orchestrated) -> None:
    one.configure(accelerator="nvml", evacuation="sleep")
    await up(one, memory_mib=400, keep_memory=True)
    ritual = await one.harvested()

    await reaches(one, ritual, "refused")
    refused = await one.fact(ritual, GpuRefused)
    assert refused
    assert "bytes are still in use" in refused.reason
    assert await one.fact(ritual, GpuEvacuated) is None
    await one.eventually(one.serves, 40, "inference is restored exactly")


async def test_a_rune_that_sleeps_well_is_woken_with_its_models(one: Orchestrated) -> None:
    one.configure(accelerator="nvml", evacuation="sleep")
    await up(one, memory_mib=400)
    ritual = await one.harvested()

    await reaches(one, ritual, "evacuated")
    fact = await one.fact(ritual, GpuEvacuated)
    assert fact
    assert fact.memory_after < 256 * MIB < fact.memory_before
    await restored(one, ritual)
    back = await one.fact(ritual, GpuRestored)
    assert back
    assert back.probes_equal is True


async def test_a_rune_that_never_comes_back_is_contained_with_one_alarm_until_it_serves(one: Orchestrated) -> None:
    one.configure(start_within_s=1.5)
    await up(one)
    ritual = await one.harvested()
    await reaches(one, ritual, "evacuated")
    one.fail(never_healthy=True)
    await one.end(ritual)

    await one.eventually(one.contained, 60, "the anvil is contained")
    waits = await one.harvested()
    reason = await one.contained()
    assert reason
    assert "stuck" in reason
    assert await one.state(waits) == "harvested"
    one.fail()
    await reaches(one, waits, "evacuated")
    assert await one.contained() is None
    assert await alarms(one) == 1


async def test_a_rune_that_answers_differently_is_started_again_and_then_contained(one: Orchestrated) -> None:
    await up(one)
    ritual = await one.harvested()
    await reaches(one, ritual, "evacuated")
    one.fail(salt="other weights")
    await one.end(ritual)

    await one.eventually(one.serves, 60, "an engine that answers differently is better than none")
    assert "answers differently" in str(await one.contained())
    fact = await one.fact(ritual, GpuRestored)
    assert fact
    assert fact.probes_equal is False
    waits = await one.harvested()

    async def explained() -> bool:
        reason = await one.pool.fetchval("SELECT reason FROM orchestrator.decision WHERE ritual = $1", waits)
        return bool(reason and "contained" in reason)

    await one.eventually(explained, 20, "the next ritual waits for a contained anvil, and the reason is recorded")
    assert await one.state(waits) == "harvested"


async def test_with_grace_enough_no_request_under_way_is_aborted_and_none_ends_uncleanly(
    behind_a_gateway: Orchestrated,
) -> None:
    one = behind_a_gateway
    one.configure()
    async with running(app, one.settings), live_load(one.settings.gateway_url, (EMBEDDED_BASE,)) as load:
        await up(one, token_s=0.03)
        ritual = await one.harvested()
        await reaches(one, ritual, "evacuated")
        await restored(one, ritual)
    report = load.report

    fact = await one.fact(ritual, GpuEvacuated)
    assert fact
    assert fact.aborted == 0
    assert report.unclean == []
    assert report.counts[End.ABORTED] == 0
    assert report.counts[End.FULL] > 0 < report.counts[End.REFUSED]


async def test_requests_that_outlast_the_grace_are_aborted_with_a_clean_error(behind_a_gateway: Orchestrated) -> None:
    one = behind_a_gateway
    one.configure(grace_s=0.3)
    async with running(app, one.settings), live_load(one.settings.gateway_url, (EMBEDDED_BASE,)) as load:
        await up(one, token_s=0.5)
        ritual = await one.harvested()
        await reaches(one, ritual, "evacuated")
    fact = await one.fact(ritual, GpuEvacuated)

    assert fact
    assert fact.aborted > 0
    assert load.report.unclean == []


async def test_an_anvil_whose_base_is_missing_is_contained_with_an_alarm_that_says_so(one: Orchestrated) -> None:
    one.configure(real=True)
    (one.settings.models_dir / EMBEDDED_BASE / "config.json").unlink()
    await one.start()

    await one.eventually(one.contained, 60, "the anvil is contained")
    assert "there is no base model in" in str(await one.contained())
    assert await alarms(one) == 1
