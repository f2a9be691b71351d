"""The supervisor with real processes: small Python programs as parts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from deploy.embedded.part import (
    Part,
    PartError,
    PartState,
    delay_s,
    exit_line,
    failures_in_a_row,
    in_order,
)
from deploy.embedded.state import LockError, lock
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.state import State
from shared.processes.files import LONGEST_LOG
from tests.support.payloads import FOREVER, until
from tests.support.process import is_running
from tests.support.supervised import House, part

PROJECT = Path(__file__).parents[2]
# Ends at SIGTERM with a word about it; `born` appears once it can.
POLITE = """
import os, signal, sys, time
def leave(*_):
    open('events', 'a').write(f'{sys.argv[1]} left\\n')
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open('events', 'a').write(f'{sys.argv[1]} came\\n')
open(f'{sys.argv[1]}.born', 'w').close()
time.sleep(600)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('born', 'w').close(); time.sleep(600)"
)
# A child that has fled into a session of its own.
FAMILY = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {FOREVER!r}], start_new_session=True); {FOREVER}"
)


def polite(home: Path, name: str, *needs: str) -> Part:
    async def born() -> bool:
        return (home / f"{name}.born").exists()

    return part(home, name, POLITE, needs=needs, ready=born)


def status(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "supervisor.json").read_text())["parts"]
    return found


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.leave()


def test_parts_are_ordered_by_their_needs(tmp_path: Path) -> None:
    parts = [part(tmp_path, "c", needs=("b", "a")), part(tmp_path, "b", needs=("a",)), part(tmp_path, "a")]
    assert [one.name for one in in_order(parts)] == ["a", "b", "c"]


def test_a_circle_of_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="a needs b, b needs a"):
        in_order([part(tmp_path, "a", needs=("b",)), part(tmp_path, "b", needs=("a",))])


def test_the_delay_doubles_to_its_limit_and_health_forgives() -> None:
    assert [delay_s(count) for count in (1, 2, 3, 6, 7, 8, 999)] == [0.5, 1, 2, 16, 30, 30, 30]
    assert failures_in_a_row(5, ready_for_s=59.9) == 6
    assert failures_in_a_row(5, ready_for_s=60) == 1


def test_the_line_about_an_exit_names_its_cause_and_the_delay() -> None:
    assert exit_line("nats-server", -9, 1) == "nats-server exited with signal 9; restarting in 0.5 s (1st time)"
    assert exit_line("phoenix", 1, 12) == "phoenix exited with code 1; restarting in 30 s (12th time)"


@pytest.mark.asyncio
async def test_parts_start_when_their_needs_are_ready_and_stop_in_reverse(house: House) -> None:
    home = house.home
    supervisor = house.supervise(polite(home, "c", "b"), polite(home, "b", "a"), polite(home, "a"))
    await supervisor.start()
    assert {name: one["state"] for name, one in status(home).items()} == dict.fromkeys("abc", "ready")
    ready = [name for name, state in house.seen if state is PartState.READY]
    starting = [name for name, state in house.seen if state is PartState.STARTING]
    assert ready == starting == ["a", "b", "c"]
    assert house.seen.index(("a", PartState.READY)) < house.seen.index(("b", PartState.STARTING))
    await supervisor.stop()
    came, left = (home / "events").read_text().split("\n")[:3], (home / "events").read_text().split("\n")[3:6]
    assert (came, left) == (["a came", "b came", "c came"], ["c left", "b left", "a left"])
    assert {one["state"] for one in status(home).values()} == {"stopped"}
    assert house.said == []
    assert {one["tree"] for one in status(home).values()} == {None}


@pytest.mark.asyncio
async def test_a_killed_part_is_restarted_with_a_growing_delay(house: House) -> None:
    supervisor = house.supervise(part(house.home, "nats-server"))
    await supervisor.start()
    pids = []
    for _ in range(2):
        await until(lambda: supervisor.status["nats-server"].state is PartState.READY)
        pid = supervisor.status["nats-server"].pid
        assert pid is not None
        assert pid not in pids
        pids.append(pid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: supervisor.status["nats-server"].pid != pid)  # type: ignore[misc]
    await until(lambda: supervisor.status["nats-server"].state is PartState.READY)
    assert house.said == [
        "nats-server exited with signal 9; restarting in 0.5 s (1st time)",
        "nats-server exited with signal 9; restarting in 1 s (2nd time)",
    ]
    shown = status(house.home)["nats-server"]
    assert (shown["restarts"], shown["last_exit"], shown["state"]) == (2, -9, "ready")


@pytest.mark.asyncio
async def test_nothing_of_a_killed_part_meets_its_successor(house: House) -> None:
    supervisor = house.supervise(part(house.home, "family", FAMILY))
    await supervisor.start()
    pid = supervisor.status["family"].pid
    assert pid is not None
    await until(lambda: psutil.Process(pid).children())
    [child] = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.status["family"].restarts == 1)
    assert not is_running(child.pid)


@pytest.mark.asyncio
async def test_a_part_that_is_never_ready_fails_the_start_with_the_end_of_its_log(house: House) -> None:
    async def never() -> bool:
        raise ConnectionRefusedError

    code = f"print('port is taken', flush=True); {FOREVER}"
    supervisor = house.supervise(part(house.home, "deaf", code, ready=never, ready_s=0.7))
    with pytest.raises(PartError, match=r"deaf was not ready within 0.7 s; .*deaf\.log:\nport is taken"):
        await supervisor.start()


@pytest.mark.asyncio
async def test_a_command_that_does_not_exist_is_an_error_at_once(house: House) -> None:
    missing = Part(name="ghost", command=("/nowhere/at/all",), cwd=house.home)
    with pytest.raises(PartError, match="ghost cannot be started"):
        await house.supervise(missing).start()


@pytest.mark.asyncio
async def test_the_log_of_a_part_is_rotated_while_it_runs(house: House) -> None:
    log = house.home / "logs/talker.log"
    code = "import time\nfor n in range(10**9): print(n, 'x' * 1000, flush=True); n < 11000 or time.sleep(0.02)"
    await house.supervise(part(house.home, "talker", code, probe_every_s=0.1)).start()

    await until(log.with_name("talker.log.1").exists)
    await until(lambda: 0 < log.stat().st_size < LONGEST_LOG)

    assert log.with_name("talker.log.1").stat().st_size == LONGEST_LOG
    await until(lambda: log.read_bytes()[-1:] == b"\n")
    assert b"\0" not in log.read_bytes(), "the part goes on at the beginning of the file"


@pytest.mark.asyncio
async def test_a_second_signal_kills_what_takes_its_time(house: House) -> None:
    async def born() -> bool:
        return (house.home / "born").exists()

    supervisor = house.supervise(part(house.home, "stubborn", STUBBORN, grace_s=60, ready=born))
    run = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor.status["stubborn"].state is PartState.READY)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: supervisor.status["stubborn"].state is PartState.STOPPING)
    assert not run.done()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(run, 10)
    assert supervisor.status["stubborn"].last_exit == -signal.SIGKILL


def test_a_home_has_one_supervisor(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(LockError, match=f"pid {os.getpid()}"), lock(tmp_path):
        pass
    with lock(tmp_path):
        pass


# A supervisor as a process of its own, so that it can be killed.
PROGRAM = f"""
import asyncio, sys
from pathlib import Path
from deploy.embedded.part import Part
from deploy.embedded.state import lock
from deploy.embedded.supervisor import Supervisor
home = Path(sys.argv[1])
parts = [Part(name=name, command=(sys.executable, '-c', {FAMILY!r}), cwd=home) for name in ('one', 'two')]
with lock(home):
    asyncio.run(Supervisor(home, parts, print, lambda name, status: None).run())
"""
Spawn = Callable[[], Awaitable[tuple[subprocess.Popen[bytes], set[int]]]]


def background(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=PROJECT, start_new_session=True)


@pytest_asyncio.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """Starts a supervisor of two parts with a child each; gives it and the pids of all four."""
    started: list[subprocess.Popen[bytes]] = []

    async def spawn() -> tuple[subprocess.Popen[bytes], set[int]]:
        process = background([sys.executable, "-c", PROGRAM, str(tmp_path)])
        started.append(process)
        tree = psutil.Process(process.pid)
        await until(lambda: len(tree.children(recursive=True)) == 4)
        await until(lambda: all(one["tree"]["leader"] for one in status(tmp_path).values()))
        return process, {child.pid for child in tree.children(recursive=True)}

    yield spawn
    for process in started:
        process.kill()
        process.wait()
    with lock(tmp_path):
        pass


@pytest.mark.asyncio
async def test_a_killed_supervisor_holds_nothing_and_its_parts_are_ended(tmp_path: Path, spawn: Spawn) -> None:
    process, pids = await spawn()
    with pytest.raises(LockError, match=f"pid {process.pid}"), lock(tmp_path):
        pass
    process.kill()
    process.wait()
    assert all(is_running(pid) for pid in pids)
    with lock(tmp_path) as ended:
        assert [line.split(":")[0] for line in ended] == ["two", "one"]
        assert not any(is_running(pid) for pid in pids)
    with lock(tmp_path) as ended:
        assert ended == []


@pytest.mark.asyncio
async def test_the_next_lock_ends_the_children_of_a_part_that_is_gone_itself(tmp_path: Path, spawn: Spawn) -> None:
    process, pids = await spawn()
    firsts = {one["tree"]["leader"]["pid"] for one in status(tmp_path).values()}
    process.kill()
    process.wait()
    for pid in firsts:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(is_running(pid) for pid in firsts))
    with lock(tmp_path) as ended:
        assert len(ended) == 2
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.asyncio
async def test_sigterm_to_a_supervisor_leaves_nothing(tmp_path: Path, spawn: Spawn) -> None:
    process, pids = await spawn()
    process.terminate()
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.asyncio
async def test_a_pid_that_was_reused_is_not_ended(tmp_path: Path, spawn: Spawn) -> None:
    process, _ = await spawn()
    process.kill()
    process.wait()
    record = tmp_path / "supervisor.json"
    content = json.loads(record.read_text())
    with background([sys.executable, "-c", FOREVER]) as stranger:
        try:
            content["parts"]["one"]["tree"]["leader"]["pid"] = stranger.pid
            record.write_text(json.dumps(content))
            with lock(tmp_path):
                pass
            assert is_running(stranger.pid)
        finally:
            stranger.kill()


@pytest.mark.asyncio
async def test_a_container_outlives_the_part_that_started_it(house: House) -> None:
    containers = ProcessContainers(house.home / "containers")
    spec = ContainerSpec(name="rune", command=(sys.executable, "-c", FOREVER), cwd=house.home)
    code = f"""
import asyncio, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.process import ProcessContainers
spec = ContainerSpec.model_validate_json({spec.model_dump_json()!r})
asyncio.run(ProcessContainers(Path({str(house.home / "containers")!r})).start(spec))
time.sleep(600)
"""
    supervisor = house.supervise(part(house.home, "service", code))
    await supervisor.start()
    state = State(house.home / "containers" / "rune")
    await until(lambda: (run := state.run()) and run.tree.leader)
    pid = supervisor.status["service"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.status["service"].restarts == 1)
    await supervisor.stop()
    run = state.run()
    assert run is not None
    assert run.tree.leader is not None
    assert is_running(run.tree.leader.pid)
    await containers.kill("rune")
    assert not is_running(run.tree.leader.pid)
