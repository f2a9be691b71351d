"""Readiness tells the truth, with the reason, while the thing it speaks of is really broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deploy.bootstrap import prepare
from services.registry.app import app
from shared.contracts.intent import TrainingIntent
from shared.contracts.roles import Role
from shared.messaging.client import connect
from shared.ritual import ledger
from shared.ritual.errors import record_error
from shared.runtime import health
from shared.runtime.presence import list_silent
from shared.storage.postgres import Pool
from tests.support.running import eventually
from tests.support.servers import House
from tests.support.services import running


async def ready(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=10) as client:
        answered = await client.get(f"{url}/health/ready")
    body: dict[str, Any] = answered.json()
    assert (answered.status_code == httpx.codes.OK) is body["ready"]
    return body


async def says(url: str, reason: str) -> None:
    async def told() -> bool:
        return any(reason in line for line in (await ready(url))["reasons"])

    await eventually(told, 20, reason)


async def becomes_ready(url: str) -> None:
    async def told() -> bool:
        return bool((await ready(url))["ready"])

    await eventually(told, 30, "ready again")


async def test_a_service_with_all_it_needs_is_ready_and_counts(house: House) -> None:
    async with running(app, house.settings) as url, httpx.AsyncClient(timeout=5) as client:
        await becomes_ready(url)
        metrics = (await client.get(f"{url}/metrics")).text

    assert 'soulforge_loop_seconds_count{loop="reconcile"}' in metrics


async def test_without_the_broker_it_is_not_ready_and_recovers(house: House) -> None:
    async with running(app, house.settings) as url:
        house.nats.kill()
        await says(url, "bus: not connected to NATS")
        await house.nats.start()
        await becomes_ready(url)


async def test_without_the_database_it_is_not_ready_and_recovers(house: House) -> None:
    async with running(app, house.settings) as url:
        house.postgres.kill()
        await says(url, "database:")
        await house.postgres.start()
        await becomes_ready(url)


async def test_with_its_consumer_deleted_it_is_not_ready_until_the_bootstrap_step(house: House) -> None:
    async with running(app, house.settings) as url:
        client = await connect(house.settings, Role.BOOTSTRAP)
        await client.jetstream().delete_consumer("SOUL", "registry-gpu-restored")
        await client.close()
        await says(url, "consumer registry-gpu-restored is gone")
        await prepare(house.settings)
        await becomes_ready(url)


async def test_with_a_reconciler_that_fails_each_time_it_is_not_ready_and_does_not_count_as_running(
    house: House, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(health, "RECONCILE_STALE_S", 0.5)
    failing = replace(app, build=lambda context: replace(app.build(context), reconcile=fail))
    async with running(failing, house.settings) as url:
        await says(url, "reconciler: last finished")
    assert await list_silent(pool, [app.name], 60) == [app.name]

    async def counts_as_running() -> bool:
        return await list_silent(pool, [app.name], 60) == []

    monkeypatch.undo()
    async with running(app, house.settings) as url:
        await becomes_ready(url)
        await eventually(counts_as_running, 20, "it counts as running")
    assert await list_silent(pool, [app.name], 0) == [app.name]


async def test_with_a_ritual_that_meets_errors_in_a_row_it_is_not_ready_until_that_one_goes_on(
    house: House, pool: Pool
) -> None:
    async with pool.acquire() as conn, conn.transaction():
        opened = await ledger.open_ritual(conn, TrainingIntent(persona="scribe"), "one", None)
    ritual = await ledger.get_ritual(pool, opened)
    assert ritual
    async with running(app, house.settings) as url:
        for _ in range(health.RITUAL_ERRORS):
            await becomes_ready(url)
            await record_error(pool, ritual, app.name, "no such adapter", 1)
        count = f"{str(opened)[:8]} met {health.RITUAL_ERRORS} errors in a row"
        await says(url, f"rituals: 1 cannot go on; {count}, last: no such adapter")

        await record_error(pool, ritual, "forge", "an error of another service", 1)
        await pool.execute("UPDATE ritual SET version = version + 1")
        await becomes_ready(url)


async def test_with_something_unsaid_for_long_it_is_not_ready(house: House, admin: Pool) -> None:
    await admin.execute(
        "INSERT INTO registry.outbox (event_id, subject, body, created_at) "
        "VALUES ($1, 'no.such.stream', '', now() - interval '1 hour')",
        uuid4(),
    )
    async with running(app, house.settings) as url:
        await says(url, "outbox: the oldest message has waited for 36")
        await says(url, " s: it is on 'no.such.stream' and met ")
        await says(
            url, 'RefusedError: NATS refuses the role registry (permissions violation for publish to "no.such.stream"'
        )
        await says(url, f"delete row {await admin.fetchval('SELECT seq FROM registry.outbox')} of registry.outbox")


async def test_with_a_message_that_only_waits_for_long_it_is_not_ready(house: House, admin: Pool) -> None:
    await admin.execute(
        "INSERT INTO registry.outbox (event_id, subject, body, created_at, retry_at) "
        "VALUES ($1, 'karma.recalled', '', now() - interval '1 hour', now() + interval '1 hour')",
        uuid4(),
    )
    async with running(app, house.settings) as url:
        await says(url, "outbox: the oldest message has waited for 36")
        assert not any("errors" in reason for reason in (await ready(url))["reasons"])


async def test_a_service_does_not_start_on_a_bus_without_its_consumers(house: House) -> None:
    client = await connect(house.settings, Role.BOOTSTRAP)
    await client.jetstream().delete_consumer("SOUL", "registry-gpu-restored")
    await client.close()
    try:
        with pytest.raises(Exception, match="run `soulforge migrate`"):
            async with running(app, house.settings):
                pass
    finally:
        await prepare(house.settings)
