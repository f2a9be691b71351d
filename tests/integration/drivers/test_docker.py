"""What is about the docker driver alone: other people's containers, interrupted starts, an engine that goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest
import pytest_asyncio

from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.docker_engine import Engine
from shared.drivers.containers.port import ContainerError, ContainerState, Mount
from tests.support.engine import IMAGE, Daemon
from tests.support.payloads import FOREVER, MEBIBYTE, Work, announce, ended, result
from tests.support.relay import relay

pytestmark = pytest.mark.asyncio
of_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to another user")
EVERYTHING = ("process-group", "environment", "network", "filesystem", "ipc", "capabilities", "pid")


@pytest.fixture
def house() -> str:
    return f"test-{uuid4().hex[:8]}"


@pytest_asyncio.fixture
async def containers(engine: str, house: str) -> AsyncIterator[DockerContainers]:
    driver = DockerContainers(engine, IMAGE, house)
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)
        await driver.remove(info.name)


@pytest.fixture
def api(engine: str) -> Iterator[Any]:
    """The engine without the driver."""
    client = docker.APIClient(base_url=engine, version="auto")
    yield client
    client.close()


@pytest.fixture
def stranger(api: Any, house: str) -> Iterator[str]:
    """A container of somebody else, under the name that the driver would give to `payload`."""
    name = f"{house}-payload"
    api.create_container(IMAGE, ["sleep", "600"], name=name, host_config=api.create_host_config(network_mode="none"))
    api.start(name)
    yield name
    api.remove_container(name, force=True)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    directory = tmp_path / "work"
    directory.mkdir()
    return Work(directory)


async def test_a_job_is_separated_in_every_way(containers: DockerContainers, work: Work) -> None:
    assert (await containers.start(work.spec(FOREVER, isolated=True))).isolation == EVERYTHING
    open_one = await containers.start(work.spec(FOREVER, name="rune"))
    assert set(EVERYTHING) - set(open_one.isolation) == {"network"}


async def test_the_engine_holds_a_job_to_its_limits(
    containers: DockerContainers, api: Any, house: str, work: Work
) -> None:
    await containers.start(work.spec(FOREVER, isolated=True, memory_bytes=64 * MEBIBYTE, shm_bytes=8 * MEBIBYTE))
    host = api.inspect_container(f"{house}-payload")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (64 * MEBIBYTE, 64 * MEBIBYTE, 8 * MEBIBYTE)
    assert (host["PidsLimit"], host["RestartPolicy"]["Name"], host["Init"]) == (4096, "no", True)


async def test_a_job_cannot_start_more_processes_than_it_may(containers: DockerContainers, work: Work) -> None:
    code = """
import os, time
try:
    for n in range(100):
        if os.fork() == 0:
            time.sleep(600)
except OSError as error:
    print(n < 20, error.strerror)
"""
    exit_code, log = await result(containers, work.spec(code, isolated=True, pids=20))
    assert (exit_code, log) == (0, "True Resource temporarily unavailable\n")


async def test_a_rune_has_the_capability_it_asks_for(containers: DockerContainers, work: Work) -> None:
    code = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('CapEff')])"
    # Bit 23 of capabilities(7).
    assert await result(containers, work.spec(code, capabilities=("SYS_NICE",))) == (0, "['0000000000800000']\n")


async def test_the_containers_of_others_are_neither_seen_nor_touched(
    containers: DockerContainers, api: Any, stranger: str, work: Work
) -> None:
    assert await containers.list({}) == []
    for call in (containers.kill("payload"), containers.stop("payload", 1), containers.remove("payload")):
        with pytest.raises(ContainerError, match="not Soulforge's"):
            await call
    with pytest.raises(ContainerError, match="not Soulforge's"):
        await containers.start(work.spec(FOREVER))
    assert api.inspect_container(stranger)["State"]["Running"]


@of_root
async def test_a_job_of_root_is_another_user_who_reads_its_inputs_and_writes_its_output(
    containers: DockerContainers, tmp_path: Path
) -> None:
    home, output = tmp_path / "home", tmp_path / "home" / "out"
    output.mkdir(mode=0o700, parents=True)
    (home / "inputs" / "deep").mkdir(mode=0o700, parents=True)
    for name in ("secret", "job.json", "inputs/deep/data"):
        (home / name).write_text(name)
        (home / name).chmod(0o600)
    (home / "inputs" / "link").symlink_to(home / "secret")
    code = f"""
import os
print(os.getuid(), open('{home}/job.json').read(), open('{home}/inputs/deep/data').read(), os.path.exists('{home}/secret'))
open('result', 'w').write('made')
os.chmod('result', 0)
os.symlink('{home}/secret', 'link')
"""
    inputs = (Mount(path=tmp_path), Mount(path=home / "inputs"), Mount(path=home / "job.json"))
    spec = Work(output).spec(code, isolated=True, hidden=(home,), mounts=inputs)
    tmp_path.chmod(0o755)
    assert await result(containers, spec) == (0, "65532 job.json inputs/deep/data False\n")
    assert (output / "result").read_text() == "made"
    secret = (home / "secret").stat()
    assert (secret.st_uid, secret.st_gid, secret.st_mode & 0o777) == (0, 0, 0o600)


@of_root
async def test_an_input_that_the_user_of_a_job_cannot_read_is_named(
    containers: DockerContainers, work: Work, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir(mode=0o700)
    with pytest.raises(ContainerError, match=r"a job cannot read .*/base as user 65532:65532: chmod -R o\+rX"):
        await containers.start(work.spec(FOREVER, isolated=True, mounts=(Mount(path=tmp_path / "base"),)))


async def test_two_houses_share_an_engine(engine: str, containers: DockerContainers, work: Work) -> None:
    neighbour = DockerContainers(engine, IMAGE, f"test-{uuid4().hex[:8]}")
    await containers.start(work.spec(FOREVER))
    assert await neighbour.inspect("payload") is None
    await neighbour.start(work.spec(FOREVER))
    await neighbour.kill("payload")
    await neighbour.remove("payload")
    [info] = await containers.list({})
    assert info.state is ContainerState.RUNNING


async def test_an_image_that_is_not_there_is_an_error(containers: DockerContainers, work: Work) -> None:
    with pytest.raises(ContainerError, match=r"(?i)no such image"):
        await containers.start(work.spec(FOREVER, image="soulforge/nowhere"))
    assert await containers.inspect("payload") is None


async def test_a_driver_without_an_image_asks_for_one(engine: str, work: Work) -> None:
    with pytest.raises(ContainerError, match=r"soulforge\.toml"):
        await DockerContainers(engine).start(work.spec(FOREVER))


async def test_a_rune_is_created_once_and_then_only_revived(containers: DockerContainers, work: Work) -> None:
    created = await containers.create(work.spec(announce("ready"), name="rune"))
    assert (created.state, created.exit_code) == (ContainerState.EXITED, None)
    assert await containers.inspect("rune") == created
    for _ in range(2):
        assert (await containers.revive("rune")).state is ContainerState.RUNNING
        await work.written("ready")
        await containers.stop("rune", grace_s=10)
        assert not work.lives("ready")
        (work.directory / "ready").unlink()


async def test_a_job_whose_start_was_cut_short_is_still_to_be_started(containers: DockerContainers, work: Work) -> None:
    await containers.create(work.spec("", isolated=True, labels={"fence": "1"}))
    assert await containers.inspect("payload") is None
    [listed] = await containers.list({"fence": "1"})
    assert (listed.name, listed.state) == ("payload", ContainerState.EXITED)
    await containers.start(work.spec(FOREVER, isolated=True, labels={"fence": "2"}))
    [info] = await containers.list({})
    assert (info.labels, info.state) == ({"fence": "2"}, ContainerState.RUNNING)


async def test_a_container_that_survives_sigkill_is_an_error(
    containers: DockerContainers, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Engine, name: str, number: int) -> None:
        """As a process in uninterruptible sleep takes it."""

    await containers.start(work.spec(FOREVER))
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "signal", nothing)
        patched.setattr("shared.drivers.containers.docker.KILL_S", 0.3)
        with pytest.raises(ContainerError, match=r"survives SIGKILL: see its process \d+"):
            await containers.stop("payload", grace_s=0.1)
    await containers.stop("payload", grace_s=0.1)


async def test_an_engine_that_is_away_is_an_error_that_says_what_to_do(tmp_path: Path, work: Work) -> None:
    absent = DockerContainers(f"unix://{tmp_path}/absent.sock", IMAGE)
    calls = (
        absent.start(work.spec(FOREVER)),
        absent.revive("payload"),
        absent.stop("payload", 1),
        absent.kill("payload"),
        absent.inspect("payload"),
        absent.list({}),
        absent.logs("payload"),
        absent.memory_bytes("payload"),
        absent.remove("payload"),
    )
    for call in calls:
        with pytest.raises(ContainerError, match=r"absent\.sock does not answer: start it"):
            await call


async def test_an_engine_that_goes_silent_is_not_waited_for_without_end(
    engine: str, house: str, containers: DockerContainers, work: Work, tmp_path: Path
) -> None:
    await containers.start(work.spec(FOREVER))
    async with relay(engine, tmp_path / "relay.sock") as line:
        driver = DockerContainers(line.url, IMAGE, house, timeout_s=1)
        assert await driver.inspect("payload") is not None
        line.open = False
        started = time.monotonic()
        with pytest.raises(ContainerError, match="does not answer"):
            await driver.kill("payload")
        assert time.monotonic() - started < 20
        line.open = True
        await driver.kill("payload")


async def test_an_engine_that_goes_away_during_a_stop_is_an_error_and_the_stop_can_be_repeated(
    engine: str, house: str, containers: DockerContainers, work: Work, tmp_path: Path
) -> None:
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    await containers.start(work.spec(ignoring + announce("ready")))
    await work.written("ready")
    async with relay(engine, tmp_path / "relay.sock") as line:
        driver = DockerContainers(line.url, IMAGE, house)
        stopping = asyncio.create_task(driver.stop("payload", grace_s=60))
        await asyncio.sleep(0.5)
        await line.cut()
        with pytest.raises(ContainerError, match="does not answer"):
            await stopping
        assert work.lives("ready")
        await line.listen()
        await driver.stop("payload", grace_s=0)
        assert not work.lives("ready")


async def test_a_crash_of_the_engine_ends_in_known_states(dockerd: Daemon, house: str, work: Work) -> None:
    containers = DockerContainers(dockerd.url, IMAGE, house)
    await containers.start(work.spec(announce("ready")))
    await work.written("ready")
    dockerd.kill()
    with pytest.raises(ContainerError, match="does not answer"):
        await containers.inspect("payload")
    await asyncio.to_thread(dockerd.start)
    await containers.kill("payload")
    assert not work.lives("ready")
    end = await ended(containers)
    assert end.exit_code == -signal.SIGTERM, "an engine that comes back ends what it finds"
    assert await containers.memory_bytes("payload") == 0
    (work.directory / "ready").unlink()
    await containers.revive("payload")
    await work.written("ready")
    await containers.kill("payload")
    await containers.remove("payload")


async def test_after_a_power_cut_a_container_is_lost(dockerd: Daemon, house: str, work: Work) -> None:
    containers = DockerContainers(dockerd.url, IMAGE, house)
    await containers.start(work.spec(announce("ready")))
    await work.written("ready")
    dockerd.cut_power()
    assert not work.lives("ready")
    await asyncio.to_thread(dockerd.start)
    end = await ended(containers)
    assert (end.exit_code, end.limit) == (None, "lost")
    await containers.remove("payload")
