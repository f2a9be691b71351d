"""A real Phoenix, as the embedded stack starts it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from deploy.embedded import parts
from deploy.embedded.part import Part
from shared.config.settings import Settings

READY_S = 120


@asynccontextmanager
async def phoenix(settings: Settings) -> AsyncIterator[str]:
    """Its URL."""
    part = parts.phoenix(settings)
    log = settings.home / "phoenix.log"
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - a spawn is over at once
            part.command, env=part.env, stdout=file, stderr=file, start_new_session=True
        )
    try:
        await _until_ready(process, part, log)
        yield settings.phoenix_url
    finally:
        process.terminate()
        process.wait(30)


async def _until_ready(process: subprocess.Popen[bytes], part: Part, log: Path) -> None:
    deadline = monotonic() + READY_S
    assert part.ready is not None
    while not await part.ready():
        if process.poll() is not None or monotonic() > deadline:
            raise RuntimeError(f"phoenix did not start: {log.read_text()[-1000:]}")
        await asyncio.sleep(0.2)
