"""A driver of containers, each in turn; another one is added as a parameter of `open_driver`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.port import Containers
from shared.drivers.containers.process import ProcessContainers
from tests.support.engine import IMAGE
from tests.support.payloads import Work

Open = Callable[[], Containers]


@pytest.fixture(params=["process", "docker"])
def open_driver(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Makes a new driver object over the same containers, as a restarted service does."""
    if request.param == "process":
        return lambda: ProcessContainers(tmp_path / "containers")
    url, house = request.getfixturevalue("engine"), f"test-{uuid4().hex[:8]}"
    return lambda: DockerContainers(url, IMAGE, house)


@pytest_asyncio.fixture
async def containers(open_driver: Open) -> AsyncIterator[Containers]:
    driver = open_driver()
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)
        await driver.remove(info.name)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    directory = tmp_path / "work"
    directory.mkdir()
    return Work(directory)
