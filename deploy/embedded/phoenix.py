"""The embedded Phoenix: its tables are in schema `traces` of our PostgreSQL; it makes no connection to the internet."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.embedded.part import answers
from shared.config.settings import Settings


def command() -> tuple[str, ...]:
    return (str(Path(sys.executable).parent / "phoenix"), "serve")


def environment(settings: Settings) -> dict[str, str]:
    folder = settings.home / "phoenix"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": settings.host,
        "PHOENIX_PORT": str(settings.port("phoenix")),
        "PHOENIX_GRPC_PORT": str(settings.port("phoenix-grpc")),
        "PHOENIX_SQL_DATABASE_URL": settings.database_url,
        "PHOENIX_SQL_DATABASE_SCHEMA": "traces",
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }


async def ready(settings: Settings) -> bool:
    return await answers(f"{settings.phoenix_url}/healthz")
