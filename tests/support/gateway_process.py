"""The gateway as a process of its own, which a test kills and starts again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx

from shared.config.settings import PROJECT, Settings
from tests.support.running import eventually


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "SOULFORGE_HOME": str(settings.home),
        "SOULFORGE_PORT_BASE": str(settings.port_base),
        "SOULFORGE_CONFIG": str(settings.config),
        "PYTHONPATH": ":".join(path for path in sys.path if path),
        "COLUMNS": "400",
    }


@asynccontextmanager
async def gateway_process(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The gateway as a process of its own; what is yielded kills it and starts it again."""
    started: list[subprocess.Popen[bytes]] = []

    async def start_again() -> None:
        for one in started:
            one.kill()
            one.wait()
        words = (sys.executable, "-m", "tests.support.fakes.gateway")
        started.append(subprocess.Popen(words, cwd=PROJECT, env=environment_of(settings)))  # noqa: ASYNC220
        await eventually(partial(is_open, settings), 20, "the gateway is open")

    try:
        yield start_again
    finally:
        for one in started:
            one.kill()
            one.wait()


async def is_open(settings: Settings) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(f"{settings.gateway_url}/health")).is_success
        except httpx.HTTPError:
            return False
