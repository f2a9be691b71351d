"""A full disk: what the supervisor cannot record or announce, it supervises all the same."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.embedded import state, supervisor
from deploy.embedded.part import PartState
from deploy.embedded.state import SupervisorState, lock
from deploy.embedded.supervisor import Supervisor
from tests.support.full_disk import SmallDisk, small_disk
from tests.support.payloads import until
from tests.support.process import is_running
from tests.support.supervised import House, part

pytestmark = pytest.mark.asyncio
ENOSPC = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.leave()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


OPEN = Path.open


def fails_on_logs(path: Path, *how: Any, **more: Any) -> Any:
    return fails() if path.suffix == ".log" else OPEN(path, *how, **more)


def fails(*_: object, **__: object) -> Any:
    raise ENOSPC


async def killed_and_restarted(supervisor: Supervisor, name: str = "one") -> int:
    """Kill a part; the pid of the next."""
    before = supervisor.status[name]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    await until(lambda: (now := supervisor.status[name]).state is PartState.READY and now.pid != before.pid)
    pid = supervisor.status[name].pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("when", ["from the start", "later"])
@pytest.mark.parametrize("what", ["write_state", "on_change", "announce", "log"])
async def test_bookkeeping_that_fails_ends_no_supervision(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    """Where a write fails, the part is restarted, and `stop` ends it and every other."""
    watched = Supervisor(
        house.home,
        [part(house.home, "one"), part(house.home, "two")],
        fails if what == "announce" else house.said.append,
        fails if what == "on_change" else lambda *_: None,
    )
    if when == "later":
        await watched.start()
    if what == "write_state":
        monkeypatch.setattr(supervisor, "write_state", fails)
    if what == "log":
        monkeypatch.setattr(Path, "open", fails_on_logs)
    if when == "from the start":
        await watched.start()

    pids = [await killed_and_restarted(watched), await killed_and_restarted(watched), watched.status["two"].pid]
    await watched.stop()

    assert all(pid and not is_running(pid) for pid in pids)
    assert {status.state for status in watched.status.values()} == {PartState.STOPPED}
    if what == "write_state":
        assert any(line.startswith("the state of the parts cannot be recorded") for line in house.said)
    if what == "log":
        assert any("cannot be written" in line and "one.log" in line for line in house.said)


async def test_on_a_full_disk_parts_are_restarted_and_what_is_recorded_is_right_again_later(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RECORD_AGAIN_S", 0.1)
    house = House(disk.folder)
    watched = house.supervise(part(disk.folder, "one"), part(disk.folder, "two"))
    await watched.start()
    disk.fill()

    pid = await killed_and_restarted(watched)
    disk.free()

    def recorded() -> object:
        return json.loads((disk.folder / "supervisor.json").read_text())["parts"]["one"]

    await until(lambda: recorded() == json.loads(watched.status["one"].model_dump_json()))
    assert [line for line in house.said if "record" in line] == [
        "the state of the parts cannot be recorded ([Errno 28] No space left on device): supervision goes on",
        "the state of the parts is recorded again",
    ]
    await house.leave()
    assert not is_running(pid)


async def test_what_was_restarted_on_a_full_disk_is_found_by_the_record_from_before(disk: SmallDisk) -> None:
    house = House(disk.folder)
    watched = house.supervise(part(disk.folder, "one"))
    await watched.start()
    disk.fill()

    pid = await killed_and_restarted(watched)

    record = SupervisorState.model_validate_json((disk.folder / "supervisor.json").read_bytes()).parts["one"]
    assert record.pid != pid and record.tree
    assert [process.pid for process in record.tree.processes()] == [pid]
    await house.leave()


async def test_a_home_on_a_full_disk_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock(tmp_path):
        pass
    monkeypatch.setattr(state, "write_record", fails)
    with lock(tmp_path) as ended:
        assert ended == []
