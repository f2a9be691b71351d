"""Hand-overs that go wrong are refused or contained, and no ritual gets an occupied anvil."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ByteSize

from services.orchestrator import containment, store, views
from services.orchestrator.anvil import WORKERS, Anvil
from services.orchestrator.containment import CHECKS_PER_FAILURE
from services.orchestrator.engine import Condition
from services.orchestrator.handover.keep_free import MOST, describe_listener, unit_in
from services.orchestrator.schedule import AWAKENED_WITHIN
from shared.config.tables import RuntimeConfig
from shared.contracts.evacuate import GpuInterrupted, GpuRefused
from shared.contracts.forge import AdapterFailed
from shared.contracts.ritual import State
from shared.drivers.containers.port import ContainerError
from shared.ritual import lease, ledger
from shared.ritual.errors import record_error
from shared.runtime.context import ServiceContext
from shared.runtime.presence import record_pass
from shared.storage.postgres import Pool
from tests.support.anvils import FIRST_FENCE, MIB, FakeContainers, FakeRune, anvil, checks, context, rune, state_of
from tests.support.orchestrated import harvested

__all__ = ["anvil", "context", "rune"]  # the fixtures


async def facts(pool: Pool, ritual: UUID) -> list[str]:
    rows = await pool.fetch("SELECT subject FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at", ritual)
    return [row["subject"] for row in rows]


async def test_memory_that_does_not_come_free_is_a_refusal_and_inference_comes_back(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    rune.keeps = 400 * MIB
    ritual = await harvested(context.settings, "one")

    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.REFUSED
    await checks(anvil, 3)

    assert rune.up
    assert await lease.get_lease(context.pool, "anvil0") is None
    fact = await ledger.get_fact(context.pool, ritual, GpuRefused)
    assert fact
    assert "419430400 bytes are still in use" in fact.reason
    assert "gpu.evacuated" not in await facts(context.pool, ritual)


async def test_an_engine_of_containers_that_is_away_is_contained_and_nothing_is_granted(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> Condition:
        raise ContainerError("the engine does not answer: start it")

    ritual = await harvested(context.settings, "one")
    monkeypatch.setattr(rune, "condition", away)
    await checks(anvil, anvil.settings.contain_after * CHECKS_PER_FAILURE)

    assert await state_of(context.pool, ritual) is State.HARVESTED
    assert await store.get_containment(context.pool, "anvil0") == "the engine does not answer: start it"
    assert await context.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'gpu.contained'") == 1
    monkeypatch.undo()
    await checks(anvil, 2)
    assert await store.get_containment(context.pool, "anvil0") is None
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_an_engine_that_goes_away_in_the_middle_of_an_evacuation_is_a_refusal_and_no_training(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise ContainerError("the engine does not answer: start it")

    ritual = await harvested(context.settings, "one")
    monkeypatch.setattr(rune, "free_memory", away)
    await checks(anvil, 3)

    assert await state_of(context.pool, ritual) is State.REFUSED
    assert "gpu.evacuated" not in await facts(context.pool, ritual)
    assert rune.up
    assert rune.open_


async def test_a_process_that_computes_on_the_device_keeps_the_anvil_from_everybody(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def processes() -> tuple[int, ...]:
        return (4242,)

    monkeypatch.setattr(anvil.accelerator, "processes", processes)
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 3)

    assert await state_of(context.pool, ritual) is State.REFUSED
    fact = await ledger.get_fact(context.pool, ritual, GpuRefused)
    assert fact
    assert "processes 4242 compute on the device" in fact.reason


async def test_a_rune_that_comes_up_while_the_anvil_is_held_is_stopped(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    rune.up = True

    await checks(anvil, 1)

    assert not rune.up
    assert await state_of(context.pool, ritual) is State.EVACUATED


@pytest.mark.parametrize("ours", [True, False], ids=["its container", "another engine"])
async def test_a_rune_that_comes_back_each_time_ends_the_attempt_with_what_starts_it(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, ours: bool
) -> None:
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    for _ in range(MOST):
        assert await state_of(context.pool, ritual) is State.EVACUATED
        rune.up, rune.foreign = ours, not ours
        await checks(anvil, 1)

    fact = await ledger.get_fact(context.pool, ritual, GpuInterrupted)
    assert fact
    what = "in its container rune-anvil0-rune" if ours else "as an engine that Soulforge did not start"
    url = context.configuration.rune_url(context.settings, "rune")
    assert f"rune rune was found running {MOST} times while the anvil was held, {what} ({url}" in fact.reason
    assert "Restart=always" in fact.reason
    assert await ledger.count_failures(context.pool, ritual) == 1
    assert rune.up and await state_of(context.pool, ritual) is State.HARVESTED


async def test_a_rune_that_cannot_be_stopped_ends_the_attempt_too(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses() -> None:
        raise ContainerError("the container engine does not answer: start it")

    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    rune.up = True
    monkeypatch.setattr(rune, "stop", refuses)
    for _ in range(MOST):
        assert await state_of(context.pool, ritual) is State.EVACUATED
        await checks(anvil, 1)

    fact = await ledger.get_fact(context.pool, ritual, GpuInterrupted)
    assert fact
    assert f"was found running {MOST} times" in fact.reason
    assert fact.reason.endswith("it cannot be stopped: the container engine does not answer: start it")
    assert await state_of(context.pool, ritual) is State.HARVESTED


def test_what_listens_at_an_address_is_named_as_far_as_it_is_known(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "engine.sock"))
        urls = f"http://127.0.0.1:{server.getsockname()[1]}", f"unix://{tmp_path}/engine.sock"
        assert [describe_listener(url) for url in urls] == [f"{url}, pid {os.getpid()}" for url in urls]
    assert tuple(map(describe_listener, urls)) == urls


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/vllm.service\n", "vllm.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/rune.service\n", "rune.service"),
        ("0::/system.slice/rune.service/libpod-payload-0a\n", "rune.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-terminal.scope\n", None),
        ("0::/system.slice/docker-0a.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_systemd_unit_of_a_process_is_that_of_its_control_group(cgroup: str, unit: str | None) -> None:
    assert unit_in(cgroup) == unit


async def test_jobs_of_another_fence_are_ended_while_the_anvil_is_held(anvil: Anvil, context: ServiceContext) -> None:
    jobs: FakeContainers = anvil.jobs  # type: ignore[assignment]
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 1)
    jobs.running, jobs.fences = ["trainer-of-an-earlier-one"], {"trainer-of-an-earlier-one": FIRST_FENCE - 1}
    await checks(anvil, 1)
    assert await state_of(context.pool, ritual) is State.EVACUATED
    assert jobs.running == [], "it is ended before the hand-over"

    jobs.running = ["trainer-of-an-earlier-one", "trainer-of-the-holder"]
    await checks(anvil, 1)

    assert jobs.running == ["trainer-of-the-holder"]
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def expire(context: ServiceContext) -> None:
    await context.pool.execute("UPDATE lease SET expires_at = clock_timestamp() WHERE ritual IS NOT NULL")


async def test_an_attempt_whose_job_never_started_is_no_failure_but_not_for_ever(
    anvil: Anvil, context: ServiceContext
) -> None:
    most = context.configuration.runtime.max_errors
    assert anvil.settings.max_attempts < most
    ritual = await harvested(context.settings, "one")
    for attempt in range(1, most + 1):
        await checks(anvil, 2)
        found = await ledger.get_ritual(context.pool, ritual)
        assert found and (found.state, found.attempt) == (State.EVACUATED, attempt)
        await expire(context)
        await checks(anvil, 1)

    assert await ledger.count_failures(context.pool, ritual) == 0
    failed = await ledger.get_fact(context.pool, ritual, AdapterFailed)
    assert failed and f"before the forge had started a job; given up after {most} attempts" in failed.reason


async def test_an_attempt_whose_service_cannot_start_a_job_fails_with_its_error(
    anvil: Anvil, context: ServiceContext
) -> None:
    ritual = await harvested(context.settings, "one")
    for _ in range(anvil.settings.max_attempts):
        await checks(anvil, 2)
        found = await ledger.get_ritual(context.pool, ritual)
        assert found and found.state is State.EVACUATED
        await record_error(context.pool, found, WORKERS[State.EVACUATED], "r is 64, the rune takes 16", 1.0)
        await expire(context)
        await checks(anvil, 1)

    failed = await ledger.get_fact(context.pool, ritual, AdapterFailed)
    assert failed and "the forge could not start a job: r is 64" in failed.reason


async def test_an_evacuation_that_meets_an_error_waits_before_its_next_try(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        rune.done.append("broken")
        raise ValueError("no such thing")

    monkeypatch.setattr(rune, "free_memory", broken)
    await harvested(context.settings, "one")
    await checks(anvil, 2)
    context.woken.clear()

    await checks(anvil, 5)

    assert rune.done.count("broken") == 1
    assert not context.woken.is_set(), "nothing is to be done before the next try"


async def test_an_attempt_whose_job_was_lost_is_a_failure(anvil: Anvil, context: ServiceContext) -> None:
    jobs: FakeContainers = anvil.jobs  # type: ignore[assignment]
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    jobs.running = ["trainer"]
    await expire(context)
    await checks(anvil, 1)

    assert await state_of(context.pool, ritual) is State.HARVESTED
    assert await ledger.count_failures(context.pool, ritual) == 1


@pytest.mark.parametrize("service", WORKERS.values())
async def test_no_ritual_gets_an_anvil_on_which_nobody_would_work(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, service: str
) -> None:
    ritual = await harvested(context.settings, "one")
    await context.pool.execute(
        "UPDATE service_heartbeat SET passed_at = now() - interval '1 minute' WHERE service = $1", service
    )

    await checks(anvil, 2)

    assert await state_of(context.pool, ritual) is State.HARVESTED and rune.open_
    decision = await views.get_decision(context.pool, ritual)
    assert decision and decision.reason == f"waits: not running: {service}; see `soulforge status`"
    assert decision.measures == {"cause": "absent"}
    await record_pass(context.pool, service)
    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_what_a_contained_anvil_answers_can_be_accepted(
    anvil: Anvil, context: ServiceContext, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    await containment.contain(anvil.context.pool, anvil.name, "base answers differently", 3, until_accepted=True)
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 3)
    assert await state_of(context.pool, ritual) is State.HARVESTED
    decision = await views.get_decision(context.pool, ritual)
    assert decision and decision.measures == {"cause": "contained"}

    await containment.accept(anvil.context.pool, anvil.name, "new weights, on purpose")
    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_no_ritual_gets_the_anvil_while_the_disk_is_nearly_full(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    enough = context.configuration
    most = RuntimeConfig(min_free=ByteSize(1 << 62))
    context.configuration = enough.model_copy(update={"runtime": most})
    ritual = await harvested(context.settings, "one")

    await checks(anvil, 2)

    assert await state_of(context.pool, ritual) is State.HARVESTED and rune.open_
    decision = await views.get_decision(context.pool, ritual)
    assert decision and "runtime.min_free" in decision.reason and "make room" in decision.reason
    context.configuration = enough
    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_a_verified_ritual_that_cannot_be_awakened_keeps_the_anvil_from_others_only_for_a_while(
    anvil: Anvil, context: ServiceContext
) -> None:
    stuck, waiting = await harvested(context.settings, "one"), await harvested(context.settings, "two")
    await context.pool.execute("UPDATE ritual SET state = 'verified' WHERE id = $1", stuck)
    await checks(anvil, 2)
    assert await state_of(context.pool, waiting) is State.HARVESTED

    await context.pool.execute(
        "UPDATE ritual SET entered_at = entered_at - $2::interval WHERE id = $1", stuck, AWAKENED_WITHIN
    )
    await checks(anvil, 2)
    assert await state_of(context.pool, waiting) is State.EVACUATED
