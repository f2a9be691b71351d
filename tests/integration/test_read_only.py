"""A database that takes no writes, or no more connections: services start, wait, say why, and go on by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from nats.aio.client import Client

from deploy.bootstrap import prepare
from deploy.services import SERVICES, load_app
from shared.config.settings import PROJECT, Settings
from shared.contracts.karma import KarmaConsecrated
from shared.runtime import service
from tests.support.consents import Tell, told
from tests.support.running import eventually
from tests.support.services import running

__all__ = ["told"]  # the fixture

pytestmark = pytest.mark.timeout(120)

FOR_ALL = ("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
FOR_ALL_OFF = ("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
# What is set for a database is what its sessions begin with: those that are open keep what they have.
FOR_SESSIONS = (
    "ALTER DATABASE soulforge SET default_transaction_read_only = on",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'soulforge-%'",
)
FOR_SESSIONS_OFF = ("ALTER DATABASE soulforge RESET default_transaction_read_only",)
KARMA = (
    b'{"id": "%s", "persona": "scribe", "session": "s", "consecrated_by": "me", "messages": '
    b'[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]}'
)


async def run(settings: Settings, *statements: str) -> None:
    connection = await asyncpg.connect(settings.database_url("bootstrap"))
    try:
        await connection.execute("SET default_transaction_read_only = off")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(autouse=True)
async def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(service, "CONNECTIONS_CHECK_S", 0.2)
    yield
    await run(settings, *FOR_ALL_OFF, *FOR_SESSIONS_OFF)


@asynccontextmanager
async def all_services(settings: Settings) -> AsyncIterator[dict[str, str]]:
    """The URL of each service."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(running(load_app(name), settings)) for name in SERVICES}


async def reasons(url: str) -> list[Any]:
    async with httpx.AsyncClient(timeout=5) as client:
        return list((await client.get(f"{url}/health/ready")).json()["reasons"])


def all_ready(urls: dict[str, str]) -> Callable[[], Any]:
    async def check() -> bool:
        return not any(await asyncio.gather(*map(reasons, urls.values())))

    return check


async def is_stored(settings: Settings, id: str) -> bool:
    connection = await asyncpg.connect(settings.database_url("bootstrap"))
    try:
        return bool(await connection.fetchval("SELECT true FROM vectors.karma WHERE id = $1", id))
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("on", "off"), [(FOR_ALL, FOR_ALL_OFF), (FOR_SESSIONS, FOR_SESSIONS_OFF)], ids=["for all", "for new sessions"]
)
async def test_services_outlast_a_read_only_database_and_go_on_once_it_takes_writes(
    settings: Settings, client: Client, on: tuple[str, ...], off: tuple[str, ...]
) -> None:
    async with all_services(settings) as urls:
        await run(settings, *on)

        async def all_know() -> bool:
            found = await asyncio.gather(*map(reasons, urls.values()))
            return all("database: it is read-only" in "; ".join(shown) for shown in found)

        await eventually(all_know, 20, "every service says that the database is read-only")
        await client.publish(KarmaConsecrated.subject, KARMA % b"meanwhile")
        await asyncio.sleep(1)
        await run(settings, *off)

        await eventually(all_ready(urls), 20, "every service is ready again")
        await eventually(lambda: is_stored(settings, "meanwhile"), 30, "what was published meanwhile is stored")


async def test_services_start_on_a_read_only_database(settings: Settings) -> None:
    await run(settings, *FOR_ALL)

    assert await prepare(settings) == []
    async with all_services(settings) as urls:
        await run(settings, *FOR_ALL_OFF)
        await eventually(all_ready(urls), 20, "every service is ready")


async def test_services_outlast_a_database_without_free_connections(settings: Settings) -> None:
    held: list[Any] = []

    async def take_all() -> None:
        try:
            while True:
                held.append(await asyncpg.connect(settings.database_url("bootstrap")))
        except asyncpg.TooManyConnectionsError:
            pass

    async with all_services(settings) as urls:
        held.append(await asyncpg.connect(settings.database_url("bootstrap")))
        await held[0].execute(FOR_SESSIONS[1])
        await take_all()
        await asyncio.sleep(2)
        await asyncio.gather(*(connection.close() for connection in held))

        await eventually(all_ready(urls), 20, "every service is ready again")


async def test_a_command_that_writes_says_that_the_database_is_read_only(settings: Settings, told: Tell) -> None:
    await run(settings, *FOR_ALL)

    code, _, error = await told("karma", "import", str(PROJECT / "examples" / "karma" / "scribe.jsonl"))

    assert code and "is read-only" in error
