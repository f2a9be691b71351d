"""What every container driver keeps from an isolated container: network, files, processes, capabilities, environment."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.port import Containers, Mount
from tests.support.containers import containers, open_driver, work
from tests.support.payloads import Work, result

__all__ = ["containers", "open_driver", "work"]  # the fixtures

# What an engine adds to an environment that lacks it; the last three are Podman's.
ENGINE_ADDS = frozenset({"HOME", "PATH", "HOSTNAME", "TERM", "container"})


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


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
print([node for node in os.listdir('/dev') if stat.S_ISBLK(os.lstat('/dev/' + node).st_mode)], os.path.exists('/dev/null'))
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
