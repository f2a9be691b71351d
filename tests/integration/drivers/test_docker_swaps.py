"""A path is swapped at every moment between a job's request and its start: no job reaches what lies outside the roots."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

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

pytestmark = pytest.mark.asyncio
AT_FDCWD, RENAME_EXCHANGE = -100, 2
# What a job tries: to read and to write whatever it finds at the path that was bound.
ATTACK = 'cat "$0" "$0/secret"; echo taken >"$0/made"; echo taken >"$0"'


class Scene:
    """A folder and a file in the Lab that a job may use, and the same names outside, which it must never reach."""

    def __init__(self, lab: Path, outside: Path) -> None:
        self.parent, self.outside = lab / uuid4().hex[:8], outside / uuid4().hex[:8]
        for top in (self.parent, self.outside):
            (top / "x").mkdir(parents=True)
            (top / "x").chmod(0o777)
        for file in (self.parent / "file", self.outside / "file", self.outside / "x" / "secret"):
            file.write_text("sealed\n" if file.is_relative_to(self.outside) else "given\n")
            file.chmod(0o666)
        self.before = self.seen()

    def seen(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in self.outside.rglob("*") if path.is_file()}


Undo = Callable[[], None]
Swap = Callable[[Scene], Undo]


def replaced(name: str, by: Callable[[Scene, Path], None]) -> Swap:
    """What is at `name`, "" for the parent, is moved aside, and something else takes its place."""

    def swap(scene: Scene) -> Undo:
        path = scene.parent / name if name else scene.parent
        aside = path.with_name(f"{path.name}-aside")
        path.rename(aside)
        by(scene, path)

        def back() -> None:
            path.unlink()
            aside.rename(path)

        return back

    return swap


def exchanged(scene: Scene) -> Undo:
    """Folder and link change places at once."""
    link = scene.parent / "link"
    link.symlink_to(scene.outside / "x")

    def change() -> None:
        names = os.fsencode(scene.parent / "x"), os.fsencode(link)
        assert ctypes.CDLL(None).renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0

    change()
    return change


def recreated(scene: Scene) -> Undo:
    (scene.parent / "x").rmdir()
    (scene.parent / "x").symlink_to(scene.outside / "x")

    def back() -> None:
        (scene.parent / "x").unlink()
        (scene.parent / "x").mkdir(mode=0o777)

    return back


def through_proc(scene: Scene, path: Path) -> None:
    path.symlink_to(f"/proc/{os.getpid()}/root{scene.outside}/x")


def relative(scene: Scene, path: Path) -> None:
    path.symlink_to(os.path.relpath(scene.outside / "x", path.parent))


def by_two_links(scene: Scene, path: Path) -> None:
    path.with_name("second").symlink_to(scene.outside / "x")
    path.symlink_to("second")


REMOVED = "a folder removed and made again as a link"
#: The part of the scene that is bound, and the swap.
SWAPS: dict[str, tuple[str, Swap]] = {
    "a folder by a link": ("x", replaced("x", lambda scene, path: path.symlink_to(scene.outside / "x"))),
    "a folder by a relative link": ("x", replaced("x", relative)),
    "a folder by two links": ("x", replaced("x", by_two_links)),
    "a folder by a link through proc": ("x", replaced("x", through_proc)),
    "a folder and a link exchanged": ("x", exchanged),
    REMOVED: ("x", recreated),
    "the parent by a link": ("x", replaced("", lambda scene, path: path.symlink_to(scene.outside))),
    "a folder by a file of another name": ("x", replaced("x", lambda scene, path: os.link(scene.outside / "file", path))),
    "a file by a link": ("file", replaced("file", lambda scene, path: path.symlink_to(scene.outside / "file"))),
    "a file by a link to a folder": ("file", replaced("file", lambda scene, path: path.symlink_to(scene.outside / "x"))),
    "a file by another name": ("file", replaced("file", lambda scene, path: os.link(scene.outside / "file", path))),
}  # fmt: skip
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


@pytest_asyncio.fixture
async def client(line: Relay, lab: Path, tmp_path: Path, api: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The proxy, in this process, so that the test acts between it and the engine."""
    limits = Limits(installation=HOUSE, images=frozenset({IMAGE}), readable=(), writable=(lab,), user=USER)
    binds = Binds(tmp_path / "binds")
    binds.prepare()
    app = application(tmp_path / "relay.sock", limits, binds)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy/v1.41") as client,
    ):
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
        for _ in range(60):
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
