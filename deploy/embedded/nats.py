"""The embedded nats-server: JetStream below the home, every acknowledged message synced to disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deploy.embedded.part import answers
from shared.config.settings import Settings


def initialise(settings: Settings) -> None:
    """Write the configuration; it is derived from the settings at every start."""
    folder = settings.home / "nats"
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "server_name": "soulforge",
        "host": settings.host,
        "port": settings.port("nats"),
        "http": f"{settings.host}:{settings.port('nats-monitor')}",
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
    return await answers(f"http://{settings.host}:{settings.port('nats-monitor')}/healthz")
