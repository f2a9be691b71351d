"""A service run inside a test, on the real servers of the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

import httpx

from deploy.services import load_configuration, migrations, service_port, service_url
from shared.config.settings import Settings
from shared.runtime.service import App, serve
from shared.storage.postgres import Pool

LIVE_S = 20


async def nothing() -> None: ...


async def play(pool: Pool, *services: str) -> None:
    """Let these services count as running, although the test plays them."""
    for service in services:
        await pool.execute("INSERT INTO service_heartbeat VALUES ($1, 'infinity') ON CONFLICT DO NOTHING", service)


def handlers_only(app: App) -> App:
    """The service with its handlers, and without its reconciler and its loops."""
    return replace(app, build=lambda context: replace(app.build(context), reconcile=nothing, loops=()))


@asynccontextmanager
async def running(app: App, settings: Settings) -> AsyncIterator[str]:
    """The URL of the service, from when it is live until the block ends."""
    url = service_url(settings, app.name)
    task = asyncio.create_task(
        serve(app, settings, load_configuration(settings), service_port(settings, app.name), migrations())
    )
    try:
        await _live(url, task)
        yield url
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _live(url: str, task: asyncio.Task[None]) -> None:
    deadline = monotonic() + LIVE_S
    async with httpx.AsyncClient(timeout=1) as client:
        while True:
            if task.done():
                await task
            try:
                if (await client.get(f"{url}/health/live")).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                if monotonic() > deadline:
                    raise
            await asyncio.sleep(0.05)
