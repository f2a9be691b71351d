"""One stack for all end-to-end tests of a session; they run in the order of their files and build on each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Stack, left_running
from tests.servers import free_port_base


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
