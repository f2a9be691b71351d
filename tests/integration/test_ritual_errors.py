"""An error belongs to the ritual that it met: it is counted, tried again later, shown, and ends that ritual at last."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest
from nats.aio.client import Client
from nats.errors import ConnectionClosedError

from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import RuntimeConfig
from shared.contracts.forge import AdapterFailed
from shared.contracts.intent import TrainingIntent
from shared.contracts.ritual import State
from shared.ritual import ledger, views
from shared.ritual.ledger import Ritual
from shared.runtime import advance as advancing
from shared.runtime.advance import advance_each
from shared.runtime.context import ServiceContext
from shared.storage.postgres import Pool, open_pool

MAX_ERRORS = 3
DELAY_S = 0.05
SHARED = (
    asyncpg.CannotConnectNowError("starting up"),
    asyncpg.DiskFullError("full"),
    asyncpg.ReadOnlySQLTransactionError("read-only"),
    asyncpg.ConnectionDoesNotExistError("gone"),
    asyncpg.TooManyConnectionsError("sorry"),
    OSError(errno.ENOSPC, "no space left on device"),
)
OWN = (
    asyncpg.DataError("invalid byte sequence"),
    ValueError("no such thing"),
    OSError(errno.EIO, "input/output error"),
    TimeoutError(),
    RuntimeError("half \ud83d of a pair and \0"),
)


@pytest.fixture
def context(settings: Settings, pool: Pool, client: Client, monkeypatch: pytest.MonkeyPatch) -> ServiceContext:
    monkeypatch.setattr(advancing, "FIRST_DELAY_S", DELAY_S)
    monkeypatch.setattr(advancing, "PATIENCE_S", 0.0)
    runtime = RuntimeConfig(max_errors=MAX_ERRORS)
    return ServiceContext("harvester", settings, pool, client, embedded().model_copy(update={"runtime": runtime}))


@pytest.fixture
async def rituals(pool: Pool) -> tuple[UUID, UUID]:
    """Two rituals; the first one is met by errors."""
    async with pool.acquire() as conn, conn.transaction():
        return (
            await ledger.open_ritual(conn, TrainingIntent(persona="scribe"), "ill", None),
            await ledger.open_ritual(conn, TrainingIntent(persona="scribe"), "well", None),
        )


def failing(ill: UUID, error: Exception, calls: Counter[UUID]) -> Callable[[Ritual], Awaitable[None]]:
    async def advance(ritual: Ritual) -> None:
        calls[ritual.id] += 1
        if ritual.id == ill:
            raise error

    return advance


async def passes(context: ServiceContext, advance: Callable[[Ritual], Awaitable[None]], count: int) -> None:
    for _ in range(count):
        await advance_each(context, await ledger.list_rituals(context.pool, State.INTENDED), advance)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
async def test_an_error_waits_longer_each_time_and_ends_its_ritual_only(
    context: ServiceContext, rituals: tuple[UUID, UUID], error: Exception
) -> None:
    ill, well = rituals
    calls: Counter[UUID] = Counter()

    await passes(context, failing(ill, error, calls), 40)

    assert calls[ill] == MAX_ERRORS < calls[well] == 40
    failed = await ledger.get_fact(context.pool, ill, AdapterFailed)
    assert failed and type(error).__name__ in failed.reason and f"{MAX_ERRORS} times" in failed.reason
    found = await ledger.get_ritual(context.pool, well)
    assert found and found.state is State.INTENDED


@pytest.mark.parametrize("error", SHARED, ids=lambda error: type(error).__name__)
async def test_an_error_of_a_shared_server_counts_against_no_ritual(
    context: ServiceContext, rituals: tuple[UUID, UUID], error: Exception
) -> None:
    ill, well = rituals
    calls: Counter[UUID] = Counter()

    await passes(context, failing(ill, error, calls), MAX_ERRORS + 2)

    assert calls[ill] == calls[well] == MAX_ERRORS + 2
    assert await views.list_errors(context.pool) == []


async def test_an_error_of_the_bus_counts_only_while_the_bus_is_there(
    context: ServiceContext, rituals: tuple[UUID, UUID]
) -> None:
    ill, _ = rituals
    away = Client()
    without = ServiceContext("harvester", context.settings, context.pool, away, context.configuration)

    await passes(without, failing(ill, ConnectionClosedError(), Counter()), 1)
    assert await views.list_errors(context.pool) == []
    await passes(context, failing(ill, ConnectionClosedError(), Counter()), 1)
    assert [shown.count for shown in await views.list_errors(context.pool)] == [1]


async def test_an_error_that_cannot_be_recorded_counts_against_no_ritual(
    context: ServiceContext, rituals: tuple[UUID, UUID]
) -> None:
    away = await open_pool(context.settings.database_url("harvester"), "harvester")
    without = ServiceContext("harvester", context.settings, away, context.nats, context.configuration)
    calls: Counter[UUID] = Counter()

    async def advance(ritual: Ritual) -> None:
        calls[ritual.id] += 1
        if ritual.id == rituals[0]:
            await away.close()  # the database is away from now on
            raise TimeoutError

    listed = await ledger.list_rituals(context.pool, State.INTENDED)
    await advance_each(without, listed, advance)

    assert calls == Counter(rituals), "the other ritual is tried all the same"
    assert await views.list_errors(context.pool) == []


async def test_what_could_not_even_be_tried_clears_no_error(
    context: ServiceContext, rituals: tuple[UUID, UUID]
) -> None:
    ill, _ = rituals
    await passes(context, failing(ill, ValueError("once"), Counter()), 1)

    async def wait(ritual: Ritual) -> bool:
        return False

    await asyncio.sleep(DELAY_S)
    await advance_each(context, await ledger.list_rituals(context.pool, State.INTENDED), wait)
    assert [shown.count for shown in await views.list_errors(context.pool)] == [1]


async def test_an_error_that_a_slow_server_may_cause_ends_a_ritual_only_after_a_while(
    context: ServiceContext, rituals: tuple[UUID, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advancing, "PATIENCE_S", 60.0)
    ill, _ = rituals
    calls: Counter[UUID] = Counter()

    await passes(context, failing(ill, asyncpg.QueryCanceledError("statement timeout"), calls), 60)
    found = await ledger.get_ritual(context.pool, ill)
    assert found and found.state is State.INTENDED and calls[ill] > MAX_ERRORS

    await context.pool.execute("UPDATE ritual_error SET first_at = first_at - interval '1 minute', retry_at = now()")
    await passes(context, failing(ill, asyncpg.QueryCanceledError("statement timeout"), calls), 1)
    found = await ledger.get_ritual(context.pool, ill)
    assert found and found.state is State.FAILED


async def test_success_and_a_step_forward_start_the_count_again(
    context: ServiceContext, rituals: tuple[UUID, UUID]
) -> None:
    ill, _ = rituals
    calls: Counter[UUID] = Counter()
    advance = failing(ill, ValueError("once"), calls)
    await passes(context, advance, 1)

    await asyncio.sleep(DELAY_S)
    await passes(context, failing(UUID(int=0), ValueError(), calls), 1)
    assert await views.list_errors(context.pool) == [], "success clears it"

    await passes(context, advance, 1)
    [shown] = await views.list_errors(context.pool)
    assert (shown.ritual, shown.owner, shown.count) == (ill, "harvester", 1)
    await context.pool.execute("UPDATE ritual SET version = version + 1 WHERE id = $1", ill)
    assert await views.list_errors(context.pool) == [], "it has moved since"
    await passes(context, advance, 1)  # at once: the delay was that of its former stage
    assert [shown.count for shown in await views.list_errors(context.pool)] == [1]


async def test_a_ritual_whose_row_cannot_be_read_ends_and_the_next_is_read(
    context: ServiceContext, admin: Pool, rituals: tuple[UUID, UUID]
) -> None:
    ill, well = rituals
    await admin.execute("UPDATE ritual SET intent = '{}' WHERE id = $1", ill)
    read: Counter[UUID] = Counter()

    async def advance(ritual: Ritual) -> None:
        assert ritual.intent.persona == "scribe"
        read[ritual.id] += 1

    await passes(context, advance, 40)

    assert read == Counter({well: 40})
    failed = await ledger.get_fact(context.pool, ill, AdapterFailed)
    assert failed and "ValidationError" in failed.reason
