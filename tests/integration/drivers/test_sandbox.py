"""What a job must not do in the sandbox of the process driver, tried as root, as an ordinary user, and without namespaces."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from shared.drivers.containers.account import ACCOUNT
from shared.drivers.containers.port import Containers, Mount
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.state import State
from shared.processes.files import LONGEST_LOG
from tests.support.accounts import ORDINARY, as_denied, as_ordinary, shared_folder
from tests.support.attempted import Tried
from tests.support.attempts import ATTEMPTS
from tests.support.attempts.attempt import MIB
from tests.support.payloads import FOREVER, Work, ended, result, until

Wrap = Callable[[list[str]], list[str]]
ROOT = pytest.param(list, id="root", marks=pytest.mark.skipif(os.getuid() != 0, reason="started by another"))
# Each uses 400 MiB.
OVERRUNS = {
    "two processes": f"import os; os.fork(); held = b'x' * {200 * MIB}; {FOREVER}",
    "files": f"[open('/' + folder + '/f', 'wb').write(bytes({200 * MIB})) for folder in ('tmp', 'dev/shm')]; {FOREVER}",
}


def attempted(wrap: Wrap, *flags: str) -> Tried:
    with shared_folder() as folder:
        command = wrap([sys.executable, "-B", "-m", "tests.support.attempted", str(folder), *flags])
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return Tried.model_validate_json(ran.stdout)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "work").mkdir()
    return Work(tmp_path / "work")


@pytest_asyncio.fixture
async def containers(tmp_path: Path) -> AsyncIterator[Containers]:
    driver = ProcessContainers(tmp_path / "containers")
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)


@pytest.mark.parametrize("wrap", [ROOT, pytest.param(as_ordinary, id="ordinary")])
def test_every_attempt_from_inside_is_refused(wrap: Wrap) -> None:
    tried = attempted(wrap)

    assert tried.uid == (0 if wrap is list else os.getuid() or ORDINARY)
    assert tried.outcomes.keys() == {attempt.name for attempt in ATTEMPTS}, tried.log
    assert {name: said for name, said in tried.outcomes.items() if not said.startswith("refused")} == {}
    assert tried.privileged == ()
    assert set(tried.owners) == {tried.uid}


def test_attempts_succeed_without_a_sandbox() -> None:
    """What proves that they are attempts: each that harms nothing outside is allowed there."""
    tried = attempted(list, "--without-sandbox")

    harmless = {attempt.name for attempt in ATTEMPTS if attempt.harmless}
    assert {name for name, said in tried.outcomes.items() if said == "allowed"} == harmless, tried


def test_a_job_is_refused_where_the_system_grants_no_namespaces() -> None:
    tried = attempted(as_denied)

    assert tried.outcomes == {}
    assert tried.refused is not None
    for part in ("jobs cannot be isolated", "bwrap", "sysctl -w user.max_user_namespaces=", 'driver = "docker"'):
        assert part in tried.refused


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary account is its own job account")
async def test_a_job_that_root_starts_owns_nothing_outside(containers: Containers, work: Work) -> None:
    (work.directory / "closed").write_text("of root")
    (work.directory / "closed").chmod(0o600)
    code = "import os; print(os.getuid(), os.getgid(), os.getgroups(), open('closed').read()); open('made', 'w')"
    groups = os.getgroups()
    os.setgroups([0])
    try:
        assert await result(containers, work.spec(code, isolated=True)) == (0, f"{ACCOUNT} {ACCOUNT} [] of root\n")
    finally:
        os.setgroups(groups)
    assert (work.directory / "made").stat().st_uid == 0


async def test_a_mount_is_found_at_the_end_of_a_link_and_at_the_link(
    containers: Containers, work: Work, tmp_path: Path
) -> None:
    (tmp_path / "data/base").mkdir(parents=True)
    (tmp_path / "data/base/model").write_text("weights")
    (tmp_path / "link").symlink_to("data")
    code = f"print(open('{tmp_path}/link/base/model').read(), open('{tmp_path}/data/base/model').read())"
    spec = work.spec(code, isolated=True, mounts=(Mount(path=tmp_path / "link/base"),))
    assert await result(containers, spec) == (0, "weights weights\n")


@pytest.mark.parametrize("code", OVERRUNS.values(), ids=OVERRUNS)
async def test_more_memory_than_allowed_ends_a_job(containers: Containers, work: Work, code: str) -> None:
    await containers.start(work.spec(code, isolated=True, memory_bytes=300 * MIB))
    assert (await ended(containers)).limit == "memory"


async def test_memory_that_processes_share_counts_once(containers: Containers, work: Work) -> None:
    code = f"import os, time; held = b'x' * {200 * MIB}; [os.fork() for _ in range(2)]; time.sleep(1.5)"
    await containers.start(work.spec(code, isolated=True, memory_bytes=300 * MIB))
    assert (await ended(containers)).exit_code == 0


async def test_the_log_of_a_job_is_bounded(containers: Containers, work: Work, tmp_path: Path) -> None:
    code = f"import time; [print('x' * {MIB}, flush=True) for _ in range({4 * LONGEST_LOG // MIB})]; {FOREVER}"
    await containers.start(work.spec(code, isolated=True))
    log = State(tmp_path / "containers" / "payload").log
    await until(lambda: log.with_name(f"{log.name}.1").exists() and log.stat().st_size <= LONGEST_LOG)


async def test_limits_are_listed(containers: Containers, work: Work) -> None:
    info = await containers.start(work.spec("", isolated=True, memory_bytes=300 * MIB, time_limit_s=60))
    expected = {"memory-sampled", "time", "log", "processes", "open-files", "file-size", "scratch"}
    assert set(info.limits) == expected
    assert {"network", "filesystem", "pid", "user", "seccomp"} <= set(info.isolation)
    await asyncio.gather(ended(containers))
