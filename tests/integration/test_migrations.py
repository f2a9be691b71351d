"""Migrations on a database of their own: applied once, and never over those of another version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from deploy.embedded import stack
from deploy.embedded.part import PartState
from deploy.embedded.supervisor import Supervisor
from deploy.services import migrations
from shared.config.settings import Settings
from shared.storage.postgres import MigrationError, migrate


@pytest.fixture
async def empty(settings: Settings) -> AsyncIterator[str]:
    """The URL of a database in which nothing was made."""
    server, name = urlsplit(settings.database_url("bootstrap")), f"migrations_{uuid4().hex}"
    await run(server.geturl(), f"CREATE DATABASE {name}")
    yield server._replace(path=f"/{name}").geturl()
    await run(server.geturl(), f"DROP DATABASE {name}")


async def run(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_a_migration_is_applied_once(empty: str) -> None:
    assert "public/0001_ritual" in await migrate(empty, migrations())
    assert await migrate(empty, migrations()) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE public.migration SET digest = 'sha256:other' WHERE owner = 'registry' AND name = '0001_registry'",
        "UPDATE public.migration SET name = '0002_recall' WHERE owner = 'registry' AND name = '0001_registry'",
        "ALTER TABLE public.migration DROP COLUMN digest",
    ],
    ids=["another text", "another name", "no digests"],
)
async def test_a_database_of_another_version_is_refused_and_left_as_it_is(empty: str, change: str) -> None:
    await migrate(empty, migrations())
    await run(empty, change)
    before = await run(empty, "SELECT * FROM public.migration ORDER BY owner, name")

    with pytest.raises(MigrationError, match=r"made by another version of Soulforge.*SOULFORGE_HOME"):
        await migrate(empty, migrations())

    assert await run(empty, "SELECT * FROM public.migration ORDER BY owner, name") == before


async def test_the_stack_is_stopped_on_a_home_of_another_version(settings: Settings, empty: str) -> None:
    await migrate(empty, migrations())
    stopped = asyncio.Event()
    ready = {"postgres": SimpleNamespace(state=PartState.READY)}
    supervisor = cast("Supervisor", SimpleNamespace(status=ready, request_stop=stopped.set))
    house = Settings(home=settings.home, database=empty)

    await stack._refuse_another_version(house, supervisor)
    assert not stopped.is_set()

    await run(empty, "UPDATE public.migration SET name = '0000_old' WHERE owner = 'forge'")
    with pytest.raises(MigrationError, match="forge/0000_old"):
        await stack._refuse_another_version(house, supervisor)
    assert stopped.is_set()
