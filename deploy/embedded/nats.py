"""The embedded nats-server: JetStream below the home, every acknowledged message synced to disk, a key for each role."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from pathlib import Path

import nkeys

from deploy.embedded.permissions import permissions
from deploy.embedded.preflight import PreflightError
from deploy.secret_files import get_secret, write_private
from shared.config.settings import Settings
from shared.contracts.roles import Role

GREETING_S = 5.0


def initialise(settings: Settings) -> None:
    """Make the seeds that are missing, and write the configuration, which is derived from the settings at every start."""
    folder = settings.home / "nats"
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "server_name": "soulforge",
        "host": settings.host,
        "port": settings.port("nats"),
        "max_payload": 1024**2,
        # By default it syncs every two minutes: acknowledged messages would not survive a power cut.
        "jetstream": {"store_dir": str(folder / "jetstream"), "sync_interval": "always", "max_file_store": 8 * 1024**3},
        # With users and no `no_auth_user`, no connection is accepted without a key.
        "authorization": {
            "users": [
                {"nkey": public_key(settings.bus_keys_dir / f"{role}.nk"), "permissions": permissions(role)}
                for role in Role
            ]
        },
    }
    write_private(config_file(settings), json.dumps(config, indent=2))


def public_key(seed: Path) -> str:
    """The public key of a seed file, which is made where it is missing. Raises PreflightError where it holds no seed."""
    try:
        return str(nkeys.from_seed(bytearray(get_secret(seed, _make_seed).encode())).public_key.decode())
    except (nkeys.NkeysError, UnicodeDecodeError) as error:
        raise PreflightError(
            f"{seed} holds no key of NATS: delete it, and `soulforge up` makes another, or restore it"
        ) from error


def _make_seed() -> str:
    return str(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def config_file(settings: Settings) -> Path:
    return settings.home / "nats" / "nats.conf"


def command(settings: Settings) -> tuple[str, ...]:
    return (str(Path(sys.executable).parent / "nats-server"), "-c", str(config_file(settings)))


async def ready(settings: Settings) -> bool:
    """True once it greets a client: it listens for them after JetStream has recovered its streams."""
    try:
        async with asyncio.timeout(GREETING_S):
            reader, writer = await asyncio.open_connection(settings.host, settings.port("nats"))
            try:
                return (await reader.readline()).startswith(b"INFO ")
            finally:
                writer.close()
    except OSError:  # a timeout is one
        return False
