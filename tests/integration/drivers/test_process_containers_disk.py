"""A full disk: what a shim cannot record, it supervises all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.drivers.containers.port import ContainerError, Containers, ContainerState
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.state import State
from tests.support.full_disk import SmallDisk, small_disk
from tests.support.payloads import FOREVER, Work, announce, ended, until

pytestmark = pytest.mark.asyncio


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest_asyncio.fixture
async def containers(disk: SmallDisk) -> AsyncIterator[Containers]:
    driver = ProcessContainers(disk.folder / "containers")
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "work").mkdir()
    return Work(tmp_path / "work")


FAMILY = f"""
import os, subprocess, sys, time
open('started', 'w').close()
while not os.path.exists('go'): time.sleep(0.02)
child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}])
time.sleep(1.5)
open('done', 'w').close()
sys.exit(7)
"""


async def test_a_job_on_a_full_disk_runs_to_its_end_which_is_recorded_when_there_is_room(
    disk: SmallDisk, containers: Containers, work: Work
) -> None:
    await containers.start(work.spec(FAMILY))
    await until((work.directory / "started").exists)
    disk.fill()
    (work.directory / "go").touch()
    await until((work.directory / "done").exists)
    info = await containers.inspect("payload")
    assert info and info.state is ContainerState.RUNNING

    disk.free()

    assert (await ended(containers)).exit_code == 7


async def test_the_limits_of_a_job_hold_on_a_full_disk(disk: SmallDisk, containers: Containers, work: Work) -> None:
    await containers.start(work.spec(announce("born"), time_limit_s=2))
    await work.written("born")
    disk.fill()
    await until(lambda: not work.lives("born"))
    disk.free()
    assert (await ended(containers)).limit == "time"


async def test_a_job_is_killed_on_a_full_disk(disk: SmallDisk, containers: Containers, work: Work) -> None:
    await containers.start(work.spec(announce("born")))
    await work.written("born")
    disk.fill()

    await containers.kill("payload")

    assert not work.lives("born")
    info = await containers.inspect("payload")
    assert info and info.state is ContainerState.EXITED


async def test_a_lost_job_on_a_full_disk_does_not_seem_to_end_at_each_look(
    disk: SmallDisk, containers: Containers, work: Work
) -> None:
    await containers.start(work.spec(FOREVER))
    directory = disk.folder / "containers" / "payload"
    run = State(directory).run()
    assert run and run.tree.leader
    disk.fill()
    for process in (run.shim, run.tree.leader):
        os.kill(process.pid, signal.SIGKILL)
    await containers.kill("payload")  # the rest of it
    an_hour_ago = (directory / "run.json").stat().st_mtime - 3600
    os.utime(directory / "run.json", (an_hour_ago, an_hour_ago))

    info = await containers.inspect("payload")

    assert info and info.limit == "lost" and not (directory / "exit.json").exists()
    assert info.finished_at == pytest.approx(an_hour_ago, abs=1)


async def test_a_job_that_cannot_be_recorded_is_not_started(
    disk: SmallDisk, containers: Containers, work: Work
) -> None:
    disk.fill()

    with pytest.raises(ContainerError, match=r"container payload cannot be recorded .*No space left.*make room"):
        await containers.start(work.spec(announce("born")))

    assert not (work.directory / "born").exists()
    disk.free()
    await containers.start(work.spec("pass"))
    assert (await ended(containers)).exit_code == 0
