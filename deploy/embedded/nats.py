"""The embedded nats-server: JetStream below the home, every acknowledged message synced to disk."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from shared.config.settings import Settings

GREETING_S = 5.0


def initialise(settings: Settings) -> None:
    """Write the configuration; it is derived from the settings at every start."""
    folder = settings.home / "nats"
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "server_name": "soulforge",
        "host": settings.host,
        "port": settings.port("nats"),
        "max_payload": 1024**2,
        # By default it syncs every two minutes: acknowledged messages would not survive a power cut.
        "jetstream": {"store_dir": str(folder / "jetstream"), "sync_interval": "always", "max_file_store": 8 * 1024**3},
    }
    config_file(settings).write_text(json.dumps(config, indent=2))


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
