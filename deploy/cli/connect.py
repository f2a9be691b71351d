"""Connect a command to its settings, the database and the bus; a server that does not answer is a one-line error."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from deploy.cli.errors import UnreachableError, UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nats.aio.client import Client

    from shared.config.settings import Settings
    from shared.contracts.message import Message
    from shared.storage.postgres import Pool

    M = TypeVar("M", bound=Message)

CONNECT_TIMEOUT_S = 3
GATEWAY_TIMEOUT_S = 10


def load_settings() -> Settings:
    """Read the settings. Raises UserError naming the variable that cannot be used."""
    from pydantic import ValidationError

    from shared.config.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise UserError(f"SOULFORGE_{str(first['loc'][0]).upper()} cannot be used: {first['msg']}") from error


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Pool]:
    """Open the ledger's database, with unqualified names in `public`."""
    import asyncpg

    from shared.storage.postgres import UNREACHABLE

    pool = await _open_pool(settings)
    try:
        yield pool
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError) as error:
        raise UserError(f"the database is not set up ({error_text(error)}): run `soulforge migrate`") from error
    except UNREACHABLE as error:
        raise unreachable_database(settings, error) from error
    finally:
        pool.terminate()


async def _open_pool(settings: Settings) -> Pool:
    import asyncpg

    from shared.storage.postgres import UNREACHABLE, open_pool

    # Raises SettingsError where the embedded database was never set up; its text has the remedy.
    url = settings.database_url("owner")
    try:
        return await open_pool(url, "public", size=2)
    except UNREACHABLE as error:
        raise unreachable_database(settings, error) from error
    except (asyncpg.PostgresError, ValueError) as error:
        where = host_port(url)
        raise UserError(f"PostgreSQL at {where} refused: {error_text(error)}; check SOULFORGE_DATABASE") from error


def unreachable_database(settings: Settings, error: BaseException) -> UnreachableError:
    from asyncpg import ReadOnlySQLTransactionError

    where = host_port(settings.database_url("owner"))
    if isinstance(error, ReadOnlySQLTransactionError):
        return UnreachableError(
            f"PostgreSQL at {where} is read-only ({error_text(error)}): let it take writes, then try again"
        )
    return UnreachableError(
        f"PostgreSQL does not answer at {where} ({error_text(error)}): is the stack up? `soulforge up`"
    )


async def withdraw_at_gateway(settings: Settings, version: str, why: str) -> bool:
    """Let the gateway refuse a version from now on; False where the gateway does not answer."""
    from shared.drivers.inference.http import Http
    from shared.drivers.inference.port import InferenceError

    decision = {"version": version, "why": why}
    try:
        answer = await Http(settings.gateway_control_url).ask("POST", "/withdrawals", decision, GATEWAY_TIMEOUT_S)
    except InferenceError:
        return False
    if answer.is_error:
        raise UserError(f"the gateway refused ({answer.status_code}): {answer.json()['error']['message']}")
    return True


@asynccontextmanager
async def bus(settings: Settings, role: str = "owner") -> AsyncIterator[Client]:
    """Connect to the bus for a few messages; it is not reconnected. Raises RefusedError where NATS refuses the role."""
    from nats.errors import Error
    from nats.js.errors import APIError, NoStreamResponseError

    from shared.messaging.client import RefusedError, connect

    client = None
    try:
        client = await connect(
            settings,
            role,
            allow_reconnect=False,
            # Without these nats-py tries a server that is away for two minutes, and 0 means for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0.2,
            connect_timeout=CONNECT_TIMEOUT_S,
            error_cb=ignore_error,
        )
        yield client
    except RefusedError:
        raise
    except (APIError, NoStreamResponseError) as error:
        raise UserError(
            f"the bus lacks its streams or refuses ({error_text(error)}): run `soulforge migrate`, then try again"
        ) from error
    except (OSError, Error) as error:
        where = host_port(settings.nats_url)
        raise UserError(
            f"NATS does not answer at {where} ({error_text(error)}): is the stack up? `soulforge up`"
        ) from error
    finally:
        if client:
            await client.close()


async def ignore_error(error: Exception) -> None:
    """Ignore an error that nats-py reports beside the call that fails: it would log it again with a traceback."""
    del error


def make_message(kind: type[M], names: Mapping[str, str], /, **values: Any) -> M:
    """Make a message of what a user gave. Raises UserError naming the option, by `names`: field -> option."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        why = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # a rule about several fields
            raise UserError(f"it cannot be sent: {why}") from error
        field = str(first["loc"][0])
        raise UserError(f"{names.get(field, f'--{field}')} cannot be used: {why}") from error


async def publish(settings: Settings, *messages: Message) -> None:
    """Publish messages to their stream; returns when the stream has stored them."""
    async with bus(settings) as client:
        jetstream = client.jetstream()
        for message in messages:
            body = message.model_dump_json().encode()
            await jetstream.publish(message.subject, body, headers={"Nats-Msg-Id": str(uuid4())})


def host_port(url: str) -> str:
    """Host and port, or the socket or its folder, of a URL, without the user and password in it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or parse_qs(parts.query).get("host", ["a local socket"])[0]
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port}" if parts.port else host


def error_text(error: BaseException) -> str:
    """The text of an error on one line."""
    return " ".join(str(error).split()) or type(error).__name__
