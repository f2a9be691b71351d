"""The proxy before a real engine: the driver works through it, and what goes beyond a job is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import docker
import httpx
import pytest
import pytest_asyncio

from deploy.docker.binds import Binds
from deploy.docker.forward import application
from deploy.docker.limits import Limits
from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.port import ContainerError, ContainerState, Mount
from tests.support.engine import IMAGE
from tests.support.payloads import FOREVER, Work, announce, ended, result
from tests.support.proxied import HOUSE, JOB, MEMORY, USER, connected, proxy

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def deployment(engine: str) -> AsyncIterator[DockerContainers]:
    """The driver with the whole engine, as deployment has it; leaves nothing behind."""
    driver = DockerContainers(engine, IMAGE, HOUSE)
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)
        await driver.remove(info.name)


@pytest.fixture
def containers(proxied: str, deployment: DockerContainers) -> DockerContainers:
    return DockerContainers(proxied, IMAGE, HOUSE)


@pytest.fixture
def work(lab: Path) -> Work:
    directory = lab / uuid4().hex[:8]
    directory.mkdir()
    return Work(directory)


@pytest_asyncio.fixture
async def client(proxied: str, containers: DockerContainers) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(proxied) as client:
        yield client


@pytest.fixture
def stranger(engine: str) -> Iterator[str]:
    api = docker.APIClient(base_url=engine, version="auto")
    name = f"stranger-{uuid4().hex[:8]}"
    api.create_container(IMAGE, ["sleep", "600"], name=name, host_config=api.create_host_config(network_mode="none"))
    api.start(name)
    yield name
    assert api.inspect_container(name)["State"]["Running"], "it was touched"
    api.remove_container(name, force=True)
    api.close()


async def test_a_job_lives_its_whole_life_through_the_gate(containers: DockerContainers, work: Work) -> None:
    spec = work.spec(f"print('works', flush=True); {announce('ready')}", isolated=True, memory_bytes=MEMORY)
    assert "network" in (await containers.start(spec)).isolation
    await work.written("ready")
    assert await containers.memory_bytes("payload") > 0
    assert [info.name for info in await containers.list({})] == ["payload"]
    await containers.stop("payload", grace_s=10)
    assert not work.lives("ready")
    assert await containers.logs("payload") == "works\n"
    await containers.remove("payload")
    assert await containers.inspect("payload") is None


async def test_a_job_has_the_user_that_is_given_and_no_other_group(containers: DockerContainers, work: Work) -> None:
    code = "import os; print(os.getresuid(), os.getresgid(), os.getgroups()); open('made', 'w').close()"
    spec = work.spec(code, isolated=True, memory_bytes=MEMORY)
    assert await result(containers, spec) == (0, "(65532, 65532, 65532) (65532, 65532, 65532) [65532]\n")
    assert (work.directory / "made").exists()


async def test_a_rune_is_started_and_stopped_but_neither_created_nor_removed(
    containers: DockerContainers, engine: str, lab: Path, work: Work, tmp_path: Path
) -> None:
    with pytest.raises(ContainerError, match="not a job of the template"):
        await containers.create(work.spec(FOREVER, name="rune"))
    with proxy(engine, tmp_path / "deployment.sock", lab, "--runes") as url:
        deployment = DockerContainers(url, IMAGE, HOUSE)
        await deployment.create(work.spec(announce("ready"), name="rune"))
        for _ in range(2):
            assert (await containers.revive("rune")).state is ContainerState.RUNNING
            await work.written("ready")
            await containers.stop("rune", grace_s=0.2)
            assert (await ended(containers, "rune")).state is ContainerState.EXITED
            (work.directory / "ready").unlink()
        with pytest.raises(ContainerError, match="removed at deployment"):
            await containers.remove("rune")
        await deployment.remove("rune")
        with pytest.raises(ContainerError, match="not a rune of the template"):
            await deployment.start(work.spec(FOREVER, isolated=True, memory_bytes=MEMORY))


async def test_a_container_that_was_created_beside_the_proxy_is_not_started(
    containers: DockerContainers, deployment: DockerContainers, work: Work
) -> None:
    for name, isolated in (("rune", False), ("payload", True)):
        await deployment.create(work.spec(FOREVER, name=name, isolated=isolated, memory_bytes=MEMORY))
        with pytest.raises(ContainerError, match="create the container through the proxy"):
            await containers.revive(name)


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "json"),
        ("GET", "logs?tail=5&stdout=1"),
        ("GET", "stats"),
        ("GET", "top"),
        ("POST", "start"),
        ("POST", "kill"),
        ("DELETE", ""),
    ],
)
async def test_the_container_of_a_stranger_is_out_of_reach(
    client: httpx.AsyncClient, stranger: str, method: str, action: str
) -> None:
    answer = await client.request(method, f"/containers/{stranger}/{action}".rstrip("/"))
    assert (answer.status_code, answer.json()["message"]) == (
        403,
        "the proxy refuses: the container is not Soulforge's",
    )


async def test_only_our_containers_are_listed_whatever_is_asked_for(
    client: httpx.AsyncClient, containers: DockerContainers, work: Work, stranger: str
) -> None:
    await containers.start(work.spec(FOREVER, isolated=True, memory_bytes=MEMORY))
    query = {"all": "1", "filters": json.dumps({"name": [stranger]})}
    rows = (await client.get("/containers/json", params=query)).json()
    assert [row["Names"] for row in rows] == [[f"/{JOB}"]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/images/json"),
        ("GET", "/v1.24/containers/json"),
        ("POST", "/v1.39/containers/create?name=payload"),
        ("POST", "/images/create?fromImage=debian"),
        ("POST", "/build"),
        ("GET", "/volumes"),
        ("POST", "/volumes/create"),
        ("POST", "/networks/create"),
        ("GET", "/events"),
        ("POST", "/swarm/init"),
        ("POST", "/containers/payload/exec"),
        ("POST", "/containers/payload/update"),
        ("POST", "/containers/payload/rename?name=x"),
        ("POST", "/containers/payload/attach"),
        ("PUT", "/containers/payload/archive?path=/"),
        ("GET", "/containers/payload/archive?path=/"),
        ("GET", "/containers/payload/export"),
        ("POST", "/commit?container=payload"),
        ("POST", "/containers/prune"),
        ("GET", "/containers/../images/json"),
        ("GET", "/containers/%2e%2e/images/json"),
    ],
)
async def test_a_call_that_soulforge_does_not_need_is_refused(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    url = f"http://proxy{path}" if path.startswith("/v") and path[2].isdigit() else path
    answer = await client.request(method, url)
    assert (answer.status_code, "not among the calls" in answer.text) == (403, True)


async def test_logs_do_not_follow_and_signals_are_numbers(
    client: httpx.AsyncClient, containers: DockerContainers, work: Work
) -> None:
    await containers.start(work.spec(FOREVER, isolated=True, memory_bytes=MEMORY))
    container = f"/containers/{JOB}"
    assert (await client.get(f"{container}/logs", params={"tail": "all"})).status_code == 403
    assert (await client.get(f"{container}/logs", params={"tail": "1", "follow": "1"})).content == b""
    assert (await client.post(f"{container}/kill", params={"signal": "KILL; rm"})).status_code == 403


async def test_the_socket_of_the_proxy_is_not_for_everybody(proxied: str) -> None:
    assert Path(proxied.removeprefix("unix://")).stat().st_mode & 0o077 == 0


async def test_an_engine_away_behind_the_gate_is_told(tmp_path: Path, work: Work) -> None:
    limits = Limits(installation=HOUSE, images=frozenset({IMAGE}), readable=(), writable=(), user=USER)
    app = application(tmp_path / "absent.sock", limits, Binds(tmp_path / "binds"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
        answer = await client.get("/version")
    assert (answer.status_code, "start it" in answer.json()["message"]) == (503, True)


async def test_what_is_hidden_below_a_mount_may_be_covered(containers: DockerContainers, work: Work) -> None:
    secret = work.directory / "secret"
    secret.write_text("sealed")
    spec = work.spec(
        f"print(open({str(secret)!r}).read() or 'nothing')",
        isolated=True,
        memory_bytes=MEMORY,
        hidden=(secret,),
        mounts=(Mount(path=work.directory / "more"),),
    )
    (work.directory / "more").mkdir()
    await containers.start(spec)
    await ended(containers)
    assert await containers.logs("payload") == "nothing\n"
