"""How a command reaches the house: its settings, its database, its bus; what does not answer is said in one line."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from deploy.cli.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client
    from pydantic_settings import BaseSettings

    from shared.postgres import Pool
    from shared.settings import Settings

CONNECT_TIMEOUT_S = 3
Told = TypeVar("Told", bound="BaseSettings")


def settings() -> Settings:
    """The settings of this house. Raises Mistake naming the variable that cannot be used."""
    from shared.settings import Settings

    return told(Settings)


def told(kind: type[Told]) -> Told:
    """Settings of any kind, read from the environment. Raises Mistake naming the variable that cannot be used."""
    from pydantic import ValidationError

    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        prefix = str(kind.model_config["env_prefix"]).rstrip("_")
        name = "_".join([prefix, *(str(part).upper() for part in first["loc"])])
        raise Mistake(f"{name} cannot be used: {first['msg']}") from error


@asynccontextmanager
async def database(house: Settings) -> AsyncIterator[Pool]:
    """The ledger's database, with unqualified names in `public`."""
    import asyncpg

    from shared.postgres import UNREACHABLE

    pool = await _open(house)
    try:
        yield pool
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise Mistake(f"the database was never set up ({said(error)}): run `soulforge migrate`") from error
    except UNREACHABLE as error:
        raise silent_database(house, error) from error
    finally:
        pool.terminate()


async def _open(house: Settings) -> Pool:
    import asyncpg

    from shared.postgres import UNREACHABLE, open_pool

    # SettingsError, where the embedded database was never set up, comes from here and says so itself.
    url = house.database_url
    try:
        return await open_pool(url, "public", size=2)
    except UNREACHABLE as error:
        raise silent_database(house, error) from error
    except (asyncpg.PostgresError, ValueError) as error:
        raise Mistake(f"PostgreSQL at {place(url)} refused: {said(error)}; check SOULFORGE_DATABASE") from error


def silent_database(house: Settings, error: BaseException) -> Mistake:
    return Mistake(
        f"PostgreSQL does not answer at {place(house.database_url)} ({said(error)}): is the stack up? `soulforge up`"
    )


@asynccontextmanager
async def bus(house: Settings) -> AsyncIterator[Client]:
    """The bus, for a command that says one thing and is done."""
    import nats
    from nats.errors import Error
    from nats.js.errors import APIError, NoStreamResponseError

    client = None
    try:
        client = await nats.connect(
            house.nats_url,
            allow_reconnect=False,
            # Without these nats-py tries a server that is away for two minutes, and 0 means for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0.2,
            connect_timeout=CONNECT_TIMEOUT_S,
            error_cb=_silent,
        )
        yield client
    except (APIError, NoStreamResponseError) as error:
        raise Mistake(
            f"the bus lacks its streams or refuses ({said(error)}): run `soulforge migrate`, then try again"
        ) from error
    except (OSError, Error) as error:
        where = place(house.nats_url)
        raise Mistake(f"NATS does not answer at {where} ({said(error)}): is the stack up? `soulforge up`") from error
    finally:
        if client:
            await client.close()


async def _silent(error: Exception) -> None:
    # The call that fails tells it too; nats-py would log it a second time with a traceback.
    del error


def place(url: str) -> str:
    """Where a URL points to, without the user and password that may stand in it."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'a local socket'}:{parts.port}" if parts.port else parts.hostname or "a local socket"


def said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
