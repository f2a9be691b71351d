"""One stack for all end-to-end tests of a session; they run in the order of their files and build on each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.fakes.holding import REHEARSAL
from tests.support.running import Stack, left_running
from tests.support.servers import free_port_base


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="soulforge-e2e-")) / "home"
    one = Stack(home, free_port_base())
    try:
        yield one
    finally:
        one.run("down")
        still = left_running(home)
        shutil.rmtree(home.parent, ignore_errors=True)
        assert not still, still


@pytest.fixture(scope="session")
async def rehearsed(stack: Stack) -> AsyncIterator[Stack]:
    """The same home, up again with the short jobs."""
    conn = await stack.connect()
    bundle = await conn.fetchval("SELECT bundle FROM registry.version WHERE persona = 'scribe'")
    results = await conn.fetchval(
        "SELECT body ->> 'results' FROM ritual_fact WHERE subject = 'adapter.verified' ORDER BY stated_at"
    )
    await conn.close()
    shutil.rmtree(REHEARSAL, ignore_errors=True)
    shutil.copytree(Path(bundle) / "adapter", REHEARSAL / "adapter", copy_function=shutil.copyfile)
    for name in ("results.json", "base_scores.json"):
        shutil.copyfile(Path(results).with_name(name), REHEARSAL / name)
    stack.down()
    await stack.up_with_short_jobs()
    yield stack
    shutil.rmtree(REHEARSAL, ignore_errors=True)
