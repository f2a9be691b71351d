"""The bootstrap step: migrations, roles and grants, streams and consumers. Every service starts through it, which restores deleted ones.

`python -m deploy.bootstrap` only prepares; `python -m deploy.bootstrap forge` prepares and then runs that service.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from deploy.home import HomeError, claim
from deploy.roles import grant
from deploy.secret_files import get_secret
from deploy.services import SERVICES, load_app, load_configuration, migrations, service_port, subscriptions
from services.gateway.keys.key import make_secret
from shared.config.settings import Settings, SettingsError
from shared.contracts.roles import Role
from shared.messaging.client import RefusedError, connect
from shared.messaging.streams import declare
from shared.runtime.advance import describe
from shared.runtime.logs import configure_logging
from shared.runtime.service import main as run_service
from shared.storage.postgres import UNREACHABLE, MigrationError, migrate

DEADLINE_S = 60
PAUSE_S = 0.5


async def prepare(settings: Settings) -> list[str]:
    """Make the owner's key, and update schemas, grants and streams to this version; returns the names of the migrations applied.

    Waits for the servers up to DEADLINE_S, then raises TimeoutError with what they answered last. Raises MigrationError
    for a database of another version, RefusedError where NATS refuses the key.
    """
    get_secret(settings.owner_key_file, make_secret)
    faults: list[str] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            applied = await _migrate(settings, faults)
            client = await _connect(settings, faults)
            try:
                await declare(client.jetstream(), subscriptions())
            finally:
                await client.close()
    except TimeoutError as error:
        answered = f" ({faults[-1]})" if faults else ""
        raise TimeoutError(f"PostgreSQL or NATS could not be used within {DEADLINE_S} s{answered}") from error
    return applied


async def _migrate(settings: Settings, faults: list[str]) -> list[str]:
    while True:
        try:
            applied = await migrate(settings.database_url("bootstrap"), migrations())
            await grant(settings)
            return applied
        except UNREACHABLE as error:
            faults.append(f"PostgreSQL: {describe(error)}")
            await asyncio.sleep(PAUSE_S)


async def _connect(settings: Settings, faults: list[str]) -> Client:
    while True:
        try:
            return await connect(settings, Role.BOOTSTRAP, allow_reconnect=False, connect_timeout=2)
        except RefusedError:
            raise
        except (OSError, NatsError) as error:
            faults.append(f"NATS: {describe(error)}")
            await asyncio.sleep(PAUSE_S)


def main() -> None:
    service = sys.argv[1] if len(sys.argv) > 1 else None
    if service and service not in SERVICES:
        raise SystemExit(f"unknown service {service!r}: one of {', '.join(SERVICES)}")
    os.umask(0o077)  # what a service and its children write is for its own account
    settings = Settings()
    try:
        configuration = load_configuration(settings)
        if service:
            configure_logging(configuration.runtime.log_level, service)
        if line := claim(settings.home):
            if service:
                structlog.get_logger().info(line)
            else:
                print(line, flush=True)
        if service:
            port = service_port(settings, service)
            run_service(
                load_app(service), settings, configuration, port, migrations(), partial(_prepare_aloud, settings)
            )
        else:
            asyncio.run(_prepare_aloud(settings))
    except TimeoutError as error:
        raise SystemExit(f"{error}: is the stack up?") from None
    except (HomeError, MigrationError, RefusedError, SettingsError) as error:
        raise SystemExit(str(error)) from None


async def _prepare_aloud(settings: Settings) -> None:
    for name in await prepare(settings):
        print(f"applied {name}", flush=True)


if __name__ == "__main__":
    main()
