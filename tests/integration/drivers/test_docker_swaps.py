"""A path is swapped at every moment between a job's request and its start: no job reaches what lies outside the roots."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
import pytest_asyncio

from deploy.docker.binds import Binds
from deploy.docker.forward import application
from deploy.docker.limits import Limits
from tests.support.engine import IMAGE
from tests.support.payloads import Work
from tests.support.proxied import HOUSE, JOB, USER, bind, body
from tests.support.relay import Relay, relay
from tests.support.swaps import REMOVED, SWAPS, Scene, Undo, exchanged

pytestmark = pytest.mark.asyncio
# What a job tries: to read and to write whatever it finds at the path that was bound.
ATTACK = 'cat "$0" "$0/secret"; echo taken >"$0/made"; echo taken >"$0"'


MOMENTS = ("before", "while created", "between", "while started", "while started, and back")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Not below any root."""
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


@pytest.fixture
def scene(lab: Path, outside: Path) -> Scene:
    return Scene(lab, outside)


@pytest.fixture
def api(engine: str) -> Iterator[Any]:
    """The engine without the proxy, to see what became of the job."""
    client = docker.APIClient(base_url=engine, version="auto")
    yield client
    for found in client.containers(all=True, filters={"name": JOB}):
        client.remove_container(found["Id"], force=True)
    client.close()


@pytest_asyncio.fixture
async def line(engine: str, tmp_path: Path) -> AsyncIterator[Relay]:
    """The way from the proxy to the engine."""
    async with relay(engine, tmp_path / "relay.sock") as line:
        yield line


@asynccontextmanager
async def within(limits: Limits, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A proxy in this process, so that the test acts between it and the engine."""
    binds = Binds(folder / "binds")
    binds.prepare()
    app = application(folder / "relay.sock", limits, binds)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy/v1.41") as client,
    ):
        yield client


@pytest.fixture
def limits(lab: Path) -> Limits:
    return Limits(installation=HOUSE, images=frozenset({IMAGE}), readable=(), writable=(lab,), user=USER)


@pytest_asyncio.fixture
async def client(limits: Limits, line: Relay, tmp_path: Path, api: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with within(limits, tmp_path) as client:
        yield client


def job(path: Path) -> dict[str, Any]:
    wanted = body(Work(path))
    wanted |= {"Entrypoint": ["sh", "-c", ATTACK, str(path)], "WorkingDir": "/"}
    wanted["HostConfig"] |= {"Mounts": [bind(str(path), read_only=False, recursive=True)], "Tmpfs": {}}
    return wanted


async def create(client: httpx.AsyncClient, path: Path) -> httpx.Response:
    return await client.post("/containers/create", params={"name": JOB}, json=job(path))


async def start(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(f"/containers/{JOB}/start")


def once(line: Relay, call: bytes, act: Callable[[], object]) -> None:
    """Act when this call of the proxy is about to reach the engine: it has been checked by then."""
    waiting = [act]

    def before(chunk: bytes) -> None:
        if chunk.startswith(b"POST") and call in chunk.split(b"\r\n")[0] and waiting:
            waiting.pop()()

    line.before = before


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", SWAPS)
async def test_no_swap_takes_a_job_outside(
    client: httpx.AsyncClient, line: Relay, api: Any, scene: Scene, name: str, moment: str
) -> None:
    bound, swap = SWAPS[name]
    undo: list[Undo] = []

    def act() -> None:
        undo.append(swap(scene))

    if moment == "before":
        act()
    if moment == "while created":
        once(line, b"/containers/create", act)
    created = await create(client, scene.parent / bound)
    assert created.status_code == (403 if moment == "before" else 201), created.text
    if moment == "between":
        act()
    if moment.startswith("while started"):
        once(line, b"/start", act)
    started = await start(client)
    if moment == "while started, and back":
        undo.pop()()
    ran = started.status_code == 204
    log = await end(api) if ran else ""
    assert len(undo) == ("back" not in moment), "the swap did not happen"
    # The runtime does not bind a folder that is gone.
    assert ran == (moment.startswith("while started") and name != REMOVED), started.text
    assert (scene.seen(), "sealed" in log) == (scene.before, False)


async def end(api: Any) -> str:
    """What the job wrote, once it has ended. The engine answers this through no relay, so it must not block the loop."""

    def wait() -> str:
        api.wait(JOB, timeout=30)
        return str(api.logs(JOB).decode())

    return await asyncio.to_thread(wait)


async def test_a_folder_and_a_link_that_change_places_all_the_time_are_never_mistaken(
    client: httpx.AsyncClient, api: Any, scene: Scene
) -> None:
    over, change = threading.Event(), exchanged(scene)

    def exchange() -> None:
        while not over.is_set():
            change()

    thread = threading.Thread(target=exchange)
    thread.start()
    ran = 0
    try:
        for _ in range(300):
            if (await create(client, scene.parent / "x")).status_code == 201:
                if (await start(client)).status_code == 204:
                    ran += 1
                    assert "sealed" not in await end(api)
                await client.delete(f"/containers/{JOB}")
            assert scene.seen() == scene.before
            if ran == 3:
                break
    finally:
        over.set()
        thread.join()
    assert ran, "no job met the folder itself"


async def test_a_job_runs_on_what_was_checked_at_every_start_also_after_the_proxy_was_killed(
    client: httpx.AsyncClient, api: Any, scene: Scene, tmp_path: Path
) -> None:
    assert (await create(client, scene.parent / "x")).status_code == 201
    killed = Binds(tmp_path / "binds").mounted(JOB, {0: str(scene.outside / "x")})
    killed.__enter__()  # its mounts stay
    for _ in range(2):
        assert (await start(client)).status_code == 204
        await end(api)
        assert (scene.parent / "x" / "made").read_text() == "taken\n"
        (scene.parent / "x" / "made").unlink()
    assert scene.seen() == scene.before
    assert JOB not in Path("/proc/self/mountinfo").read_text(), "a mount is left"


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"user": "1000:1000"}, "jobs run as 1000:1000"), ({"writable": ()}, "below a directory that jobs may write")],
)
async def test_a_job_that_was_created_earlier_is_started_within_the_limits_of_now(
    client: httpx.AsyncClient, scene: Scene, limits: Limits, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    assert (await create(client, scene.parent / "x")).status_code == 201
    async with within(limits.model_copy(update=change), tmp_path) as later:
        answer = await start(later)
    assert (answer.status_code, reason in answer.text) == (403, True)


@pytest.fixture
def mounted(scene: Scene) -> Iterator[None]:
    """A mount of what lies outside, below the folder that is bound."""
    below = scene.parent / "x" / "secret"
    below.touch()
    subprocess.run(("mount", "--bind", scene.outside / "x" / "secret", below), check=True)
    yield
    subprocess.run(("umount", below), check=True)


@pytest.mark.usefixtures("mounted")
async def test_a_mount_below_a_folder_is_not_shown(client: httpx.AsyncClient, api: Any, scene: Scene) -> None:
    assert (await create(client, scene.parent / "x")).status_code == 201
    assert (await start(client)).status_code == 204
    assert "sealed" not in await end(api)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("make", [pipe, listener])
async def test_only_folders_and_files_are_bound(
    client: httpx.AsyncClient, scene: Scene, make: Callable[[Path], None]
) -> None:
    make(scene.parent / "special")
    answer = await create(client, scene.parent / "special")
    assert (answer.status_code, "neither a directory nor a file" in answer.text) == (403, True)


async def test_a_path_that_is_gone_is_refused(client: httpx.AsyncClient, scene: Scene) -> None:
    assert (await create(client, scene.parent / "x")).status_code == 201
    (scene.parent / "x").rmdir()
    answer = await start(client)
    assert (answer.status_code, "No such file" in answer.text) == (403, True)
