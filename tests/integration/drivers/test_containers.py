"""What every container driver must do. A driver is added as a parameter of `open_driver`, not as another suite."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.port import ContainerError, Containers, ContainerState, Mount
from shared.drivers.containers.process import ProcessContainers
from tests.support.engine import IMAGE
from tests.support.payloads import FOREVER, MEBIBYTE, Work, announce, ended, fleeing, result

pytestmark = pytest.mark.asyncio
Open = Callable[[], Containers]
# What an engine adds to an environment that lacks it; the last three are Podman's.
ENGINE_ADDS = frozenset({"HOME", "PATH", "HOSTNAME", "TERM", "container"})


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


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


async def test_a_container_runs_and_its_exit_code_is_kept(containers: Containers, work: Work) -> None:
    info = await containers.start(work.spec("import time; time.sleep(1); raise SystemExit(7)"))
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


@pytest.mark.parametrize("time_limit_s", [None, 60])
async def test_a_command_that_cannot_run_is_an_error_and_leaves_nothing(
    containers: Containers, work: Work, time_limit_s: float | None
) -> None:
    spec = work.spec("", time_limit_s=time_limit_s).model_copy(update={"command": ("/nowhere/at/all",)})
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
    await work.written("ready")
    started = time.monotonic()
    await containers.stop("payload", grace_s=0.5)
    assert 0.5 <= time.monotonic() - started < 30
    assert (await ended(containers)).exit_code == -signal.SIGKILL
    assert not work.lives("ready")


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
    await work.written("fled")
    assert work.lives("fled")
    await containers.stop("payload", grace_s=5)
    assert not work.lives("fled")


async def test_a_grandchild_does_not_outlive_a_payload_that_ends_by_itself(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(fleeing("while not os.path.exists('fled'): pass")))
    await work.written("fled")
    await ended(containers)
    assert not work.lives("fled")


async def test_containers_are_listed_by_all_their_labels_oldest_first(containers: Containers, work: Work) -> None:
    for name, role in (("b", "trainer"), ("a", "trainer"), ("c", "rune")):
        await containers.start(work.spec("", name=name, labels={"role": role, "anvil": "anvil0"}))
    assert [info.name for info in await containers.list({"anvil": "anvil0", "role": "trainer"})] == ["b", "a"]
    assert len(await containers.list({})) == 3
    assert await containers.list({"role": "trainer", "anvil": "other"}) == []


async def test_logs_are_the_last_lines_of_both_streams(containers: Containers, work: Work) -> None:
    # An engine reads two pipes: what is written at once to both may change places.
    line = "print(n, file=sys.stderr if n % 2 else sys.stdout, flush=True), time.sleep(0.1)"
    code = f"import sys, time; [({line}) for n in range(10)]"
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
    connect = f"import socket; print(socket.if_nameindex()); socket.create_connection({listener!r}, timeout=5)"
    exit_code, log = await result(containers, work.spec(connect, isolated=isolated))
    assert exit_code == code
    if isolated:
        # Its own loopback, where nobody listens, is up or down.
        assert "[(1, 'lo')]\n" in log
        assert "Network is unreachable" in log or "Connection refused" in log


async def test_an_isolated_container_cannot_read_what_is_hidden(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    shown = tmp_path / "secrets" / "shown"
    shown.mkdir(parents=True)
    (shown.parent / "password").write_text("hunter2")
    (shown / "public").write_text("welcome")
    # The last lies outside the temporary directory, which an isolated container does not share anyway.
    places = (shown / "public", shown.parent / "password", tmp_path / "containers", Path(__file__))
    code = f"import os; print([os.path.exists(place) for place in {[str(place) for place in places]}])"
    hidden = (tmp_path, Path(__file__).parent)
    spec = work.spec(code, isolated=True, hidden=hidden, mounts=(Mount(path=shown),))
    assert await result(containers, spec) == (0, f"{[True] + [False] * 3}\n")


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
        print(error.errno in (errno.EROFS, errno.ENOENT, errno.EACCES))
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
    init, *others = json.loads(log)
    assert init == 1
    assert len(others) == 1


@pytest.mark.parametrize("isolated", [False, True])
async def test_nothing_is_inherited_from_the_environment(
    containers: Containers, work: Work, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    monkeypatch.setenv("SOULFORGE_DATABASE", "postgresql://soulforge:hunter2@127.0.0.1/soulforge")
    known = {"SOULFORGE_PROCESS", "LC_CTYPE"} | (ENGINE_ADDS if isinstance(containers, DockerContainers) else set())
    code = f"import os; print(sorted(set(os.environ) - {known}))"
    spec = work.spec(code, isolated=isolated, env={"GIVEN": "1"})
    assert await result(containers, spec) == (0, "['GIVEN']\n")


async def test_a_new_driver_takes_over_what_an_earlier_one_started(
    containers: Containers, open_driver: Open, work: Work
) -> None:
    await containers.start(work.spec(announce("ready"), labels={"role": "trainer"}))
    await work.written("ready")
    heir = open_driver()
    [info] = await heir.list({"role": "trainer"})
    assert info.state is ContainerState.RUNNING
    await heir.stop(info.name, grace_s=5)
    assert not work.lives("ready")
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


async def test_an_exited_container_is_revived_as_it_was_specified(containers: Containers, work: Work) -> None:
    code = "open('runs', 'a').write('x'); raise SystemExit(len(open('runs').read()))"
    await containers.start(work.spec(code, labels={"role": "rune"}))
    first = await ended(containers)
    await containers.revive("payload")
    second = await ended(containers)
    assert (first.exit_code, second.exit_code, second.labels) == (1, 2, {"role": "rune"})
    assert second.started_at > first.started_at


async def test_revive_leaves_a_running_container_alone(containers: Containers, work: Work) -> None:
    started = await containers.start(work.spec(FOREVER))
    assert await containers.revive("payload") == started


async def test_only_a_known_container_is_revived(containers: Containers) -> None:
    with pytest.raises(ContainerError, match="unknown"):
        await containers.revive("payload")


async def test_a_revived_container_is_stopped_like_any_other(containers: Containers, work: Work) -> None:
    await containers.start(work.spec(announce("ready")))
    await containers.kill("payload")
    (work.directory / "ready").unlink(missing_ok=True)
    await containers.revive("payload")
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    assert not work.lives("ready")
    assert (await ended(containers)).exit_code == -signal.SIGTERM


async def test_a_time_limit_does_not_hinder_a_stop_with_grace(containers: Containers, work: Work) -> None:
    handler = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); "
    await containers.start(work.spec(handler + announce("ready"), isolated=True, time_limit_s=600))
    await work.written("ready")
    await containers.stop("payload", grace_s=10)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (5, None)


async def test_a_name_may_bear_an_address(containers: Containers, work: Work) -> None:
    await containers.start(work.spec("", name="persona@1a2b"))
    assert (await ended(containers, "persona@1a2b")).name == "persona@1a2b"
