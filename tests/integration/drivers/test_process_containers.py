"""What is about the process driver alone: its shim can die without its payload, and it shows the host's files."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.drivers.containers.port import Containers, ContainerState
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.state import ContainerRecord, Run, State
from shared.processes.files import LONGEST_LOG
from shared.processes.identity import ProcessIdentity, boot_id
from shared.processes.tree import ProcessTree
from tests.support.payloads import FOREVER, Work, announce, ended, fleeing, result, until
from tests.support.process import is_running

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def containers(tmp_path: Path) -> AsyncIterator[Containers]:
    driver = ProcessContainers(tmp_path / "containers")
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    directory = tmp_path / "work"
    directory.mkdir()
    return Work(directory)


async def gone(pid: int) -> bool:
    """Whether a process has disappeared, but for one that waits to be reaped by a stranger."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not is_running(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_what_is_hidden_is_hidden_from_isolated_containers_only(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    code = f"import os; print(os.path.exists({str(tmp_path / 'containers')!r}), os.path.exists({__file__!r}))"
    assert await result(containers, work.spec(code, hidden=(tmp_path, Path(__file__).parent))) == (0, "True True\n")


async def test_a_revival_that_was_cut_short_can_be_repeated(containers: Containers, work: Work, tmp_path: Path) -> None:
    await containers.start(work.spec("open('runs', 'a').write('x')"))
    await ended(containers)
    state = State(tmp_path / "containers" / "payload")
    record = state.record()
    assert record is not None
    state.renew(record.model_copy(update={"requested_at": 0.0, "token": "of a revival that went no further"}))
    assert (await ended(containers)).limit == "lost"
    await containers.revive("payload")
    assert (await ended(containers)).exit_code == 0
    assert await work.written("runs") == "xx"


async def test_the_log_of_a_container_is_rotated_while_it_runs(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    log = State(tmp_path / "containers" / "payload").log
    code = f"import os, time; print('x' * {2 * LONGEST_LOG}, flush=True); time.sleep(2); os.ftruncate(1, 1 << 40); {FOREVER}"
    copy = log.with_name(f"{log.name}.1")
    await containers.start(work.spec(code))

    await until(lambda: copy.exists() and copy.read_bytes() == b"x" * (LONGEST_LOG - 1) + b"\n")
    # A job can make its log as long as it likes: a hole of a TiB is not copied.
    await until(lambda: copy.read_bytes() == bytes(LONGEST_LOG))
    await until(lambda: log.stat().st_size == 0)


def shim_of(tmp_path: Path) -> int:
    run = State(tmp_path / "containers" / "payload").run()
    assert run is not None
    return run.shim.pid


@pytest.mark.parametrize("code", [announce("fled"), fleeing(FOREVER)], ids=["payload", "fled"])
async def test_a_payload_that_outlives_its_shim_runs_until_it_is_killed(
    containers: Containers, work: Work, tmp_path: Path, code: str
) -> None:
    await containers.start(work.spec(code))
    pid = int(await work.written("fled"))
    state = State(tmp_path / "containers" / "payload")
    await until(lambda: (run := state.run()) and pid in {member.pid for member in run.tree.members})
    os.kill(shim_of(tmp_path), signal.SIGKILL)
    assert await gone(shim_of(tmp_path))
    info = await containers.inspect("payload")
    assert info is not None
    assert info.state is ContainerState.RUNNING
    await containers.kill("payload")
    assert await gone(pid)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (None, "lost")


async def test_a_process_that_only_bears_the_mark_is_found(containers: Containers, work: Work, tmp_path: Path) -> None:
    keep_mark = fleeing(FOREVER).replace("{})", "os.environ)")
    await containers.start(work.spec(keep_mark))
    pid = int(await work.written("fled"))
    os.kill(shim_of(tmp_path), signal.SIGKILL)
    state = State(tmp_path / "containers" / "payload")
    run = state.run()
    assert run is not None
    assert run.tree.leader is not None
    os.kill(run.tree.leader.pid, signal.SIGKILL)
    state.write_run(run.model_copy(update={"tree": run.tree.model_copy(update={"members": ()})}))
    await containers.kill("payload")
    assert await gone(pid)


async def test_an_isolated_payload_dies_with_its_shim(containers: Containers, work: Work, tmp_path: Path) -> None:
    info = await containers.start(work.spec(announce("ready"), isolated=True))
    if "pid" not in info.isolation:
        pytest.skip("this machine grants no PID namespace")
    await work.written("ready")
    os.kill(shim_of(tmp_path), signal.SIGKILL)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (None, "lost")


async def test_a_shim_that_was_killed_before_its_payload_ran_is_not_waited_for(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    spec, state = work.spec(FOREVER), State(tmp_path / "containers" / "payload")
    state.write_record(ContainerRecord(token="t", requested_at=time.time(), spec=spec))
    dead = ProcessIdentity(pid=os.getpid(), start_ticks=0, boot_id=boot_id())
    state.write_run(Run(shim=dead, tree=ProcessTree(token="t")))

    async with asyncio.timeout(5):
        info = await containers.start(spec)

    assert (info.state, info.limit) == (ContainerState.EXITED, "lost")


async def test_a_stopped_shim_does_not_hinder_kill(containers: Containers, work: Work, tmp_path: Path) -> None:
    await containers.start(work.spec(announce("ready")))
    pid = int(await work.written("ready"))
    os.kill(shim_of(tmp_path), signal.SIGSTOP)
    await containers.kill("payload")
    assert await gone(pid)


async def test_after_a_power_cut_a_container_is_lost(containers: Containers, work: Work, tmp_path: Path) -> None:
    await containers.start(work.spec(FOREVER))
    await containers.kill("payload")
    state = State(tmp_path / "containers" / "payload")
    run = state.run()
    assert run is not None
    (state.directory / "exit.json").unlink()
    # Of an earlier boot, and its pid now belongs to another process: this one.
    shim = run.shim.model_copy(update={"pid": os.getpid(), "boot_id": "an earlier boot"})
    state.write_run(run.model_copy(update={"shim": shim}))
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (None, "lost")


async def test_an_interrupted_start_counts_as_running_until_it_is_settled(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    await containers.start(work.spec(""))
    await ended(containers)
    directory = tmp_path / "containers" / "payload"
    for name in ("run.json", "exit.json"):
        (directory / name).unlink(missing_ok=True)
    info = await containers.inspect("payload")
    assert info is not None
    assert info.state is ContainerState.RUNNING
    await containers.kill("payload")
    assert (await ended(containers)).limit == "lost"
