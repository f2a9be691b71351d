"""A part that hangs is noticed, killed and restarted; one that answers, late or after a pause of everything, is not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from deploy.embedded import part as part_module
from deploy.embedded import postgres
from deploy.embedded.part import Part, PartState, answers
from deploy.embedded.supervisor import Supervisor
from shared.config.settings import PROJECT
from tests.support.payloads import until
from tests.support.servers import House as Servers
from tests.support.servers import free_port_base
from tests.support.supervised import House, part

pytestmark = pytest.mark.asyncio
EVERY_S = 0.2
# Answers over HTTP from its one thread, as a service does from its one loop.
SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', {port}), Answer).serve_forever()
"""


@pytest_asyncio.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.leave()


def server(home: Path) -> tuple[Part, Callable[[], Awaitable[bool]]]:
    port = free_port_base()

    async def ready() -> bool:
        return await answers(f"http://127.0.0.1:{port}/")

    return part(home, "server", SERVER.format(port=port), ready=ready, probe_every_s=EVERY_S, probes=5), ready


def pid_of(supervisor: Supervisor) -> int:
    pid = supervisor.status["server"].pid
    assert pid is not None
    return pid


async def test_a_stopped_part_is_killed_and_restarted(supervised: House) -> None:
    one, ready = server(supervised.home)
    supervisor = supervised.supervise(one, part(supervised.home, "other"))
    await supervisor.start()
    other = supervisor.status["other"].pid

    os.kill(pid_of(supervisor), signal.SIGSTOP)
    await until(lambda: supervisor.status["server"].restarts)
    await until(lambda: supervisor.status["server"].state is PartState.READY)

    assert await ready()
    assert supervised.said == [
        "server runs but does not answer: 5 probes in a row failed, it is killed",
        "server exited with signal 9; restarting in 0.5 s (1st time)",
    ]
    status = supervisor.status
    assert (status["server"].restarts, status["server"].last_exit) == (1, -signal.SIGKILL)
    assert (status["other"].restarts, status["other"].pid) == (0, other)


async def test_a_part_is_restarted_each_time_it_hangs(supervised: House) -> None:
    one, _ = server(supervised.home)
    supervisor = supervised.supervise(one)
    await supervisor.start()
    for time in (1, 2):
        await until(lambda: supervisor.status["server"].state is PartState.READY)
        os.kill(pid_of(supervisor), signal.SIGSTOP)
        await until(lambda time=time: supervisor.status["server"].restarts == time)  # type: ignore[misc]


async def test_a_part_that_hangs_before_it_is_ready_again_is_restarted_each_time_later(supervised: House) -> None:
    works = True

    async def ready() -> bool:
        return works

    one = part(supervised.home, "server", ready=ready, ready_s=0.5, probe_every_s=EVERY_S, probes=5)
    supervisor = supervised.supervise(one)
    await supervisor.start()
    works = False
    os.kill(pid_of(supervisor), signal.SIGKILL)
    await until(lambda: supervisor.status["server"].restarts == 3)
    works = True
    await until(lambda: supervisor.status["server"].state is PartState.READY)

    assert supervised.said == [
        "server exited with signal 9; restarting in 0.5 s (1st time)",
        "server was not ready within 0.5 s, it is killed",
        "server exited with signal 9; restarting in 1 s (2nd time)",
        "server was not ready within 0.5 s, it is killed",
        "server exited with signal 9; restarting in 2 s (3rd time)",
    ]


async def test_a_part_that_is_not_ready_for_long_does_not_count_as_healthy(
    supervised: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "HEALTHY_S", 0.3)
    works = True

    async def ready() -> bool:
        return works

    supervisor = supervised.supervise(part(supervised.home, "server", ready=ready, ready_s=0.5, probe_every_s=EVERY_S))
    await supervisor.start()
    works = False
    os.kill(pid_of(supervisor), signal.SIGKILL)
    await until(lambda: supervisor.status["server"].restarts == 3)

    assert supervised.said[-1] == "server exited with signal 9; restarting in 2 s (3rd time)"


async def test_a_part_that_lives_has_as_long_as_it_needs_to_be_ready_again(supervised: House) -> None:
    works = True
    lived: list[int] = []

    async def ready() -> bool:
        return works

    async def live() -> bool:
        lived.append(pid_of(supervisor))
        return True

    supervisor = supervised.supervise(
        part(supervised.home, "server", ready=ready, live=live, ready_s=0.2, probe_every_s=EVERY_S)
    )
    await supervisor.start()
    before = pid_of(supervisor)
    works = False
    os.kill(before, signal.SIGKILL)
    await until(lambda: len([pid for pid in lived if pid != before]) > 3)
    works = True
    await until(lambda: supervisor.status["server"].state is PartState.READY)

    assert supervisor.status["server"].restarts == 1


async def test_a_hung_part_is_ended_by_a_stop(supervised: House) -> None:
    one, _ = server(supervised.home)
    supervisor = supervised.supervise(one)
    await supervisor.start()
    pid = pid_of(supervisor)
    os.kill(pid, signal.SIGSTOP)
    supervisor.request_stop()
    supervisor.request_stop()

    await supervisor.stop()

    assert supervisor.status["server"].state is PartState.STOPPED
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("error", [OSError("reset"), asyncpg.InterfaceError("closed"), ZeroDivisionError()])
async def test_only_probes_that_fail_in_a_row_count_whatever_they_raise(supervised: House, error: Exception) -> None:
    asked: list[bool] = []

    async def now_and_then() -> bool:
        """Answers every fifth time: four in a row fail."""
        asked.append(len(asked) % 5 == 0)
        if not asked[-1]:
            raise error
        return True

    one = part(supervised.home, "late", ready=now_and_then, probe_every_s=0.02, probes=5)
    supervisor = supervised.supervise(one)
    await supervisor.start()
    await until(lambda: len(asked) > 40)

    assert (supervisor.status["late"].restarts, supervised.said) == (0, [])


async def test_a_probe_without_an_end_fails_after_its_time(supervised: House) -> None:
    async def ready() -> bool:
        return True

    async def never() -> bool:
        await asyncio.sleep(600)
        return True

    supervisor = supervised.supervise(
        part(supervised.home, "deaf", ready=ready, live=never, probe_every_s=0.05, probes=3)
    )
    await supervisor.start()

    await until(lambda: supervisor.status["deaf"].restarts)


PROGRAM = """
import asyncio, sys
from functools import partial
from pathlib import Path
from deploy.embedded.part import Part, answers
from deploy.embedded.supervisor import Supervisor
home, port, code = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
ready = partial(answers, f'http://127.0.0.1:{port}/')
one = Part('server', (sys.executable, '-I', '-S', '-c', code), home, ready=ready, probe_every_s=0.2, probes=5)
asyncio.run(Supervisor(home, [one], print, lambda name, status: None).run())
"""


async def test_after_a_pause_of_the_whole_machine_nothing_is_restarted(tmp_path: Path) -> None:
    port = free_port_base()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(port), SERVER.format(port=port)]
    record = tmp_path / "supervisor.json"

    def shown() -> dict[str, object]:
        found: dict[str, object] = json.loads(record.read_text())["parts"]["server"]
        return found

    with subprocess.Popen(command, cwd=PROJECT, start_new_session=True) as supervisor:  # noqa: ASYNC220
        try:
            await until(lambda: record.exists() and shown()["state"] == "ready")
            before = shown()
            everything = [psutil.Process(supervisor.pid), *psutil.Process(supervisor.pid).children(recursive=True)]
            for process in everything:
                process.suspend()
            await asyncio.sleep(4 * 5 * EVERY_S)
            # The supervisor first: it finds the part still stopped, and one probe is late.
            for process in everything:
                process.resume()
                await asyncio.sleep(EVERY_S)
            await asyncio.sleep(2 * 5 * EVERY_S)
            assert shown() == before
        finally:
            supervisor.terminate()


async def test_postgresql_lives_while_it_answers_even_that_it_takes_no_more_connections(house: Servers) -> None:
    held = []
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                held.append(await asyncpg.connect(house.settings.database_url("bootstrap")))
        assert not await postgres.ready(house.settings)
        assert await postgres.live(house.settings)
    finally:
        for connection in held:
            connection.terminate()


async def test_a_stopped_postgresql_does_not_live(house: Servers) -> None:
    assert house.postgres.process
    tree = psutil.Process(house.postgres.process.pid)
    stopped = [tree, *tree.children(recursive=True)]
    assert await postgres.live(house.settings)
    for process in stopped:
        process.suspend()
    try:
        assert not await postgres.live(house.settings)
    finally:
        for process in stopped:
            process.resume()
