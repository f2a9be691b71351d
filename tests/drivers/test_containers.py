"""What every container driver must do. A driver is added as a parameter of `Drive`, not as another suite."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from shared.drivers.containers.port import (
    ContainerError,
    ContainerInfo,
    Containers,
    ContainerSpec,
    ContainerState,
    Mount,
)
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.state import State

pytestmark = pytest.mark.asyncio
MEBIBYTE = 1 << 20
FOREVER = "import time; time.sleep(600)"
INTERPRETER = tuple(Mount(path=Path(prefix)) for prefix in sorted({sys.prefix, sys.base_prefix}))
Open = Callable[[], Containers]


@pytest.fixture(params=["process"])
def open_driver(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Makes a new driver object over the same containers, as a restarted service does."""
    return {"process": lambda: ProcessContainers(tmp_path / "containers")}[request.param]


@pytest_asyncio.fixture
async def containers(open_driver: Open) -> AsyncIterator[Containers]:
    driver = open_driver()
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.02)


@dataclass
class Work:
    """A directory to work in, and the shortest way to a specification of a Python payload."""

    directory: Path

    def spec(self, code: str, *, name: str = "payload", mounts: tuple[Mount, ...] = (), **more: Any) -> ContainerSpec:
        output = Mount(path=self.directory, read_only=False)
        command = (sys.executable, "-I", "-S", "-c", code)
        return ContainerSpec(
            name=name, command=command, cwd=self.directory, mounts=(*INTERPRETER, output, *mounts), **more
        )

    async def written(self, name: str) -> str:
        """The content of a file in the directory, as soon as it is there."""
        path = self.directory / name
        await until(path.is_file)
        return path.read_text()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    directory = tmp_path / "work"
    directory.mkdir()
    return Work(directory)


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


async def ended(containers: Containers, name: str = "payload") -> ContainerInfo:
    async with asyncio.timeout(10):
        while True:
            info = await containers.inspect(name)
            assert info is not None
            if info.state is ContainerState.EXITED:
                return info
            await asyncio.sleep(0.02)


async def result(containers: Containers, spec: ContainerSpec) -> tuple[int | None, str]:
    """Exit code and output of a payload; skips where an isolated one is not separated at all."""
    started = await containers.start(spec)
    if spec.isolated and not {"network", "filesystem"} <= set(started.isolation):
        pytest.skip(f"this machine grants no namespaces: isolation is only {started.isolation}")
    info = await ended(containers, spec.name)
    return info.exit_code, await containers.logs(spec.name)


def announce(name: str, then: str = FOREVER) -> str:
    """Code that writes its pid to a file, completely or not at all, and goes on."""
    return f"import os; open('t', 'w').write(str(os.getpid())); os.rename('t', {name!r}); {then}"


async def gone(pid: int) -> bool:
    """Whether a process has disappeared, but for one that waits to be reaped by a stranger."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_container_runs_and_its_exit_code_is_kept(containers: Containers, work: Work) -> None:
    info = await containers.start(work.spec("import time; time.sleep(0.3); raise SystemExit(7)"))
    assert info.state is ContainerState.RUNNING
    assert {"process-group", "environment"} <= set(info.isolation)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (7, None)
    assert end.finished_at is not None
    assert end.finished_at > end.started_at


async def test_an_unknown_name_is_nothing_and_harmless(containers: Containers) -> None:
    assert await containers.inspect("unknown") is None
    await containers.stop("unknown", 1)
    await containers.kill("unknown")
    await containers.remove("unknown")
    assert await containers.logs("unknown") == ""
    assert await containers.memory_bytes("unknown") == 0


async def test_a_name_that_leaves_the_directory_is_refused(containers: Containers, work: Work) -> None:
    with pytest.raises(ContainerError, match="name"):
        await containers.start(work.spec(FOREVER, name="../outside"))


async def test_a_command_that_cannot_run_is_an_error_and_leaves_nothing(containers: Containers, work: Work) -> None:
    spec = work.spec("").model_copy(update={"command": ("/nowhere/at/all",)})
    with pytest.raises(ContainerError, match="/nowhere/at/all"):
        await containers.start(spec)
    assert await containers.inspect("payload") is None


async def test_the_same_name_runs_once(containers: Containers, work: Work) -> None:
    code = "open('runs', 'a').write('x'); import time; time.sleep(0.5)"
    first, second = await asyncio.gather(containers.start(work.spec(code)), containers.start(work.spec(code)))
    assert first.started_at == second.started_at
    await ended(containers)
    assert (await containers.start(work.spec(code))).state is ContainerState.EXITED
    assert await work.written("runs") == "x"


@pytest.mark.parametrize("isolated", [False, True])
async def test_stop_lets_a_payload_finish_within_its_grace(containers: Containers, work: Work, isolated: bool) -> None:
    handler = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('checkpoint'), sys.exit(5))); "
    await containers.start(work.spec(handler + announce("ready"), isolated=isolated))
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    info = await ended(containers)
    assert (info.exit_code, await containers.logs("payload")) == (5, "checkpoint\n")


async def test_stop_kills_a_payload_that_ignores_it(containers: Containers, work: Work) -> None:
    await containers.start(
        work.spec("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + announce("ready"))
    )
    pid = int(await work.written("ready"))
    started = time.monotonic()
    await containers.stop("payload", grace_s=0.5)
    assert 0.5 <= time.monotonic() - started < 30
    assert (await ended(containers)).exit_code == -signal.SIGKILL
    assert await gone(pid)


@pytest.mark.parametrize("isolated", [False, True])
async def test_sigterm_ends_a_payload_that_does_not_handle_it(
    containers: Containers, work: Work, isolated: bool
) -> None:
    await containers.start(work.spec(announce("ready"), isolated=isolated))
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    assert (await ended(containers)).exit_code == -signal.SIGTERM


async def test_a_grandchild_that_fled_its_session_does_not_outlive_stop(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(fleeing(FOREVER)))
    pid = int(await work.written("fled"))
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    await containers.stop("payload", grace_s=5)
    assert await gone(pid)


async def test_a_grandchild_does_not_outlive_a_payload_that_ends_by_itself(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(fleeing("while not os.path.exists('fled'): pass")))
    pid = int(await work.written("fled"))
    await ended(containers)
    assert await gone(pid)


def fleeing(then: str) -> str:
    """Code with a grandchild in a session of its own and an empty environment, orphaned by its parent."""
    child = [sys.executable, "-I", "-S", "-c", announce("fled")]
    return (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        os.execve({sys.executable!r}, {child!r}, {{}})\n"
        "    os._exit(0)\n"
        f"os.wait()\n{then}"
    )


async def test_containers_are_listed_by_all_their_labels_oldest_first(containers: Containers, work: Work) -> None:
    for name, role in (("b", "trainer"), ("a", "trainer"), ("c", "rune")):
        await containers.start(work.spec("", name=name, labels={"role": role, "anvil": "anvil0"}))
    assert [info.name for info in await containers.list({"anvil": "anvil0", "role": "trainer"})] == ["b", "a"]
    assert len(await containers.list({})) == 3
    assert await containers.list({"role": "trainer", "anvil": "other"}) == []


async def test_logs_are_the_last_lines_of_both_streams(containers: Containers, work: Work) -> None:
    code = "import sys; [print(n, file=sys.stderr if n % 2 else sys.stdout, flush=True) for n in range(10)]"
    await result(containers, work.spec(code))
    assert await containers.logs("payload", tail=3) == "7\n8\n9\n"


@pytest.mark.parametrize("isolated", [False, True])
async def test_memory_is_that_of_the_payload(containers: Containers, work: Work, isolated: bool) -> None:
    grow = f"import os; held = bytearray(); os.wait() if os.fork() else (held.extend(b'x' * {150 * MEBIBYTE}), "
    await containers.start(work.spec(grow + f"exec({announce('grown')!r}))", isolated=isolated))
    await work.written("grown")
    assert 150 * MEBIBYTE < await containers.memory_bytes("payload") < 200 * MEBIBYTE
    await containers.kill("payload")
    assert await containers.memory_bytes("payload") == 0


async def test_too_much_memory_ends_a_container(containers: Containers, work: Work) -> None:
    code = f"held = b'x' * {200 * MEBIBYTE}; {FOREVER}"
    await containers.start(work.spec(code, memory_bytes=100 * MEBIBYTE))
    info = await ended(containers)
    assert (info.limit, info.exit_code) == ("memory", -signal.SIGKILL)


async def test_too_much_time_ends_a_container(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(FOREVER, time_limit_s=0.5))
    info = await ended(containers)
    assert (info.limit, info.exit_code) == ("time", -signal.SIGKILL)


@pytest.mark.parametrize(("isolated", "code"), [(False, 0), (True, 1)])
async def test_only_an_isolated_container_has_no_network(
    containers: Containers, work: Work, listener: tuple[str, int], isolated: bool, code: int
) -> None:
    connect = f"import socket; socket.create_connection({listener!r}, timeout=5)"
    exit_code, log = await result(containers, work.spec(connect, isolated=isolated))
    assert exit_code == code
    assert ("Network is unreachable" in log) is isolated


@pytest.mark.parametrize("isolated", [False, True])
async def test_only_an_isolated_container_cannot_read_what_is_hidden(
    containers: Containers, work: Work, tmp_path: Path, isolated: bool
) -> None:
    shown = tmp_path / "secrets" / "shown"
    shown.mkdir(parents=True)
    (shown.parent / "password").write_text("hunter2")
    (shown / "public").write_text("welcome")
    # The last lies outside the temporary directory, which an isolated container does not share anyway.
    places = (shown / "public", shown.parent / "password", tmp_path / "containers", Path(__file__))
    code = f"import os; print([os.path.exists(place) for place in {[str(place) for place in places]}])"
    hidden = (tmp_path, Path(__file__).parent)
    exit_code, log = await result(
        containers, work.spec(code, isolated=isolated, hidden=hidden, mounts=(Mount(path=shown),))
    )
    assert (exit_code, log) == (0, f"{[True] + [not isolated] * 3}\n")


async def test_a_hidden_place_below_a_mount_stays_hidden(containers: Containers, work: Work, tmp_path: Path) -> None:
    holdout = tmp_path / "data" / "holdout"
    holdout.mkdir(parents=True)
    (holdout / "items").write_text("sealed")
    spec = work.spec(
        f"import os; print(os.listdir({str(holdout)!r}))",
        isolated=True,
        mounts=(Mount(path=tmp_path / "data"),),
        hidden=(holdout,),
    )
    assert await result(containers, spec) == (0, "[]\n")


async def test_an_isolated_container_writes_only_where_it_may(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    inputs, outside = tmp_path / "inputs", Path(__file__).parent
    inputs.mkdir()
    (inputs / "data").write_text("given")
    code = f"""
import errno, tempfile
print(open('{inputs}/data').read())
for place in ('{inputs}/data', '{inputs}/new', '{outside}/new', '/proc/sys/vm/swappiness'):
    try:
        open(place, 'a').write('1')
    except OSError as error:
        print(error.errno in (errno.EROFS, errno.ENOENT))  # not there at all, where the project lies in /tmp
open('result', 'w').write('made')
tempfile.TemporaryFile().write(b'x')
"""
    exit_code, log = await result(containers, work.spec(code, isolated=True, mounts=(Mount(path=inputs),)))
    assert (exit_code, log.split()) == (0, ["given", "True", "True", "True", "True"])
    assert (work.directory / "result").read_text() == "made"
    assert (inputs / "data").read_text() == "given"


async def test_an_isolated_container_holds_no_capability_and_sees_no_disk(containers: Containers, work: Work) -> None:
    code = """
import os, stat
print([line.split()[1].strip('0') for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs'))])
print([node for node in os.listdir('/dev') if stat.S_ISBLK(os.stat('/dev/' + node).st_mode)], os.path.exists('/dev/null'))
"""
    exit_code, log = await result(containers, work.spec(code, isolated=True))
    assert (exit_code, log) == (0, "['', '', '', '', '', '1']\n[] True\n")


async def test_an_isolated_container_sees_no_process_but_its_own(containers: Containers, work: Work) -> None:
    code = "import os; print(sorted(int(name) for name in os.listdir('/proc') if name.isdecimal()))"
    spec = work.spec(code, isolated=True)
    _, log = await result(containers, spec)
    info = await containers.inspect("payload")
    if info is None or "pid" not in info.isolation:
        pytest.skip("this machine grants no PID namespace")
    assert log == "[1, 2]\n"


@pytest.mark.parametrize("isolated", [False, True])
async def test_nothing_is_inherited_from_the_environment(
    containers: Containers, work: Work, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    monkeypatch.setenv("SOULFORGE_DATABASE", "postgresql://soulforge:hunter2@127.0.0.1/soulforge")
    code = "import os; print(sorted(set(os.environ) - {'SOULFORGE_CONTAINER', 'LC_CTYPE'}))"
    spec = work.spec(code, isolated=isolated, env={"GIVEN": "1"})
    assert await result(containers, spec) == (0, "['GIVEN']\n")


async def test_a_new_driver_takes_over_what_an_earlier_one_started(
    containers: Containers, open_driver: Open, work: Work
) -> None:
    await containers.start(work.spec(announce("ready"), labels={"role": "trainer"}))
    pid = int(await work.written("ready"))
    heir = open_driver()
    [info] = await heir.list({"role": "trainer"})
    assert info.state is ContainerState.RUNNING
    await heir.stop(info.name, grace_s=5)
    assert await gone(pid)
    end = await containers.inspect("payload")
    assert end is not None
    assert end.exit_code == -signal.SIGTERM


async def test_only_an_exited_container_is_removed(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(FOREVER))
    with pytest.raises(ContainerError, match="stop it"):
        await containers.remove("payload")
    await containers.kill("payload")
    await containers.remove("payload")
    assert await containers.inspect("payload") is None


# What follows is about the process driver alone: its shim can die without its payload.


def shim_of(tmp_path: Path) -> int:
    shim = State(tmp_path / "containers" / "payload").shim()
    assert shim is not None
    return shim.pid


@pytest.mark.parametrize("code", [announce("fled"), fleeing(FOREVER)], ids=["payload", "fled"])
async def test_a_payload_that_outlives_its_shim_runs_until_it_is_killed(
    containers: Containers, work: Work, tmp_path: Path, code: str
) -> None:
    await containers.start(work.spec(code))
    pid = int(await work.written("fled"))
    state = State(tmp_path / "containers" / "payload")
    await until(lambda: pid in {member.pid for member in state.tree().members})
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
    first = state.child()
    assert first is not None
    os.kill(first.identity.pid, signal.SIGKILL)
    (state.directory / "tree.json").unlink(missing_ok=True)
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
    shim = state.shim()
    assert shim is not None
    (state.directory / "exit.json").unlink()
    # Of an earlier boot, and its pid now belongs to somebody else: this very process.
    state.guard(shim.model_copy(update={"pid": os.getpid(), "boot_id": "an earlier boot"}))
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (None, "lost")


async def test_an_interrupted_start_counts_as_running_until_it_is_settled(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    await containers.start(work.spec(""))
    await ended(containers)
    directory = tmp_path / "containers" / "payload"
    for name in ("identity.json", "child.json", "tree.json", "exit.json"):
        (directory / name).unlink()
    info = await containers.inspect("payload")
    assert info is not None
    assert info.state is ContainerState.RUNNING
    await containers.kill("payload")
    assert (await ended(containers)).limit == "lost"
