"""Fixtures of the whole session: one real PostgreSQL and NATS, emptied before each test that uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from shutil import rmtree

import asyncpg
import pytest
from nats.aio.client import Client
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from deploy.services import SERVICES
from shared.config.settings import Settings
from shared.messaging.client import connect
from shared.messaging.streams import STREAMS
from shared.storage.postgres import Pool, open_pool
from tests.support.engine import dockerd, engine
from tests.support.servers import TESTER, House
from tests.support.servers import house as open_house

__all__ = ["dockerd", "engine"]  # one engine of containers for the whole session

# What a test may leave rows in: all but the record of applied migrations, and the tables of Phoenix and SAQ.
LIST_TABLES = """
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY ($1::text[]) AND c.relname <> 'migration'
"""
KEPT = ("gateway", "lab", "bases")  #: folders of a home; identifiers that tests repeat name files in them
SCHEMAS = ("public", "vectors", *SERVICES)


class SideBySide(LoadFileScheduling):  # type: ignore[misc] # it has no types
    """Several processes: a file's tests run in one, and so do those of a folder whose files share a stack or an engine."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file.rpartition("/")[0] if file.startswith(("tests/acceptance/", "tests/integration/drivers/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SideBySide | None:
    return SideBySide(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest.fixture
async def house(servers: House) -> House:
    """A house with empty tables and empty streams, and nothing that an earlier test kept in its home."""
    for kept in KEPT:
        rmtree(servers.settings.home / kept, ignore_errors=True)
    connection = await asyncpg.connect(servers.settings.database_url("bootstrap"))
    tables = [row[0] for row in await connection.fetch(LIST_TABLES, SCHEMAS)]
    await connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
    await connection.close()
    client = await connect(servers.settings, TESTER)
    for stream in STREAMS:
        await client.jetstream().purge_stream(stream.name or "")
    await client.close()
    return servers


@pytest.fixture
def settings(house: House) -> Settings:
    return house.settings


@pytest.fixture
async def pool(house: House) -> AsyncIterator[Pool]:
    """Connections as the harvester's: with its role, `public` and its own schema."""
    pool = await open_pool(house.settings.database_url("harvester"), "harvester")
    yield pool
    await pool.close()


@pytest.fixture
async def admin(house: House) -> AsyncIterator[Pool]:
    """Connections with all rights, for what no part may do; in the harvester's schema and `public`."""
    pool = await open_pool(house.settings.database_url("bootstrap"), "harvester")
    yield pool
    await pool.close()


@pytest.fixture
async def owner(house: House) -> AsyncIterator[Pool]:
    """Connections as those of the command line."""
    pool = await open_pool(house.settings.database_url("owner"), "public")
    yield pool
    await pool.close()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A connection to the bus that may do everything."""
    client = await connect(settings, TESTER)
    yield client
    await client.close()
