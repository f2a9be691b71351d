"""The proxy before a real engine: the driver works through it, and what goes beyond a job is refused with the reason."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import httpx
import pytest
import pytest_asyncio

from deploy.docker.proxy import application
from deploy.docker.rules import Limits
from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.docker_request import EngineKind, create_body
from shared.drivers.containers.port import ContainerError, ContainerState, Mount
from tests.support.engine import IMAGE, answers
from tests.support.payloads import FOREVER, INTERPRETER, MEBIBYTE, Work, announce, ended

pytestmark = pytest.mark.asyncio
HOUSE = f"test-{uuid4().hex[:8]}"
MEMORY = 256 * MEBIBYTE


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only place where a job may write."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def proxy(engine: str, lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a proxy that runs as users run it."""
    path = tmp_path_factory.mktemp("proxy") / "proxy.sock"
    command = [
        *(sys.executable, "-m", "deploy.docker.proxy", "--listen", str(path)),
        *(
            "--engine",
            engine.removeprefix("unix://"),
            "--installation",
            HOUSE,
            "--image",
            IMAGE,
            "--writable",
            str(lab),
        ),
        *(word for mount in INTERPRETER for word in ("--readable", str(mount.path))),
    ]
    with (path.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 90
    while not answers(f"unix://{path}"):
        assert process.poll() is None and time.monotonic() < deadline, "the proxy does not start"
        time.sleep(0.05)
    yield f"unix://{path}"
    process.terminate()
    process.wait(30)


@pytest_asyncio.fixture
async def deployment(engine: str) -> AsyncIterator[DockerContainers]:
    """The driver with the whole engine, as deployment has it; leaves nothing behind."""
    driver = DockerContainers(engine, IMAGE, HOUSE)
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)
        await driver.remove(info.name)


@pytest.fixture
def containers(proxy: str, deployment: DockerContainers) -> DockerContainers:
    return DockerContainers(proxy, IMAGE, HOUSE)


@pytest.fixture
def work(lab: Path) -> Work:
    directory = lab / uuid4().hex[:8]
    directory.mkdir()
    return Work(directory)


@pytest_asyncio.fixture
async def client(proxy: str, containers: DockerContainers) -> AsyncIterator[httpx.AsyncClient]:
    """The proxy without the driver."""
    transport = httpx.AsyncHTTPTransport(uds=proxy.removeprefix("unix://"))
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy/v1.41", timeout=30) as client:
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


async def test_a_rune_is_started_and_stopped_but_neither_created_nor_removed(
    containers: DockerContainers, deployment: DockerContainers, work: Work
) -> None:
    with pytest.raises(ContainerError, match="not a job of the template"):
        await containers.create(work.spec(FOREVER, name="rune"))
    await deployment.create(work.spec(FOREVER, name="rune"))
    assert (await containers.revive("rune")).state is ContainerState.RUNNING
    await containers.stop("rune", grace_s=0.2)
    assert (await ended(containers, "rune")).state is ContainerState.EXITED
    with pytest.raises(ContainerError, match="removed at deployment"):
        await containers.remove("rune")


def body(work: Work) -> dict[str, Any]:
    spec = work.spec(FOREVER, isolated=True, memory_bytes=MEMORY)
    return create_body(spec, HOUSE, IMAGE, EngineKind()).request()


def bind(source: str, target: str | None = None, read_only: bool = True, recursive: bool = False) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target or source,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": not recursive},
    }


HOST = {
    "a privileged one": ({"Privileged": True}, "Privileged"),
    "a capability": ({"CapAdd": ["SYS_ADMIN"]}, "CapAdd"),
    "all capabilities": ({"CapDrop": []}, "CapDrop"),
    "new privileges": ({"SecurityOpt": []}, "SecurityOpt"),
    "no seccomp": ({"SecurityOpt": ["seccomp=unconfined"]}, "SecurityOpt"),
    "the host's network": ({"NetworkMode": "host"}, "NetworkMode"),
    "another's network": ({"NetworkMode": "container:rune"}, "NetworkMode"),
    "the host's processes": ({"PidMode": "host"}, "PidMode"),
    "the host's memory segments": ({"IpcMode": "host"}, "IpcMode"),
    "a writable root": ({"ReadonlyRootfs": False}, "ReadonlyRootfs"),
    "a device": ({"Devices": [{"PathOnHost": "/dev/vda"}]}, "Devices"),
    "an old-style bind": ({"Binds": ["/:/host"]}, "Binds"),
    "the volumes of another": ({"VolumesFrom": ["rune"]}, "VolumesFrom"),
    "a volume": ({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}]}, "Mounts"),
    "the host's root": ({"Mounts": [bind("/")]}, "that jobs may read"),
    "the engine's socket": ({"Mounts": [bind("/var/run/docker.sock")]}, "/var/run/docker.sock"),
    "a way around": ({"Mounts": [bind("/tmp/../etc")]}, "not a plain path"),
    "another place inside": ({"Mounts": [bind("/tmp", "/etc")]}, "same inside as outside"),
    "a restart": ({"RestartPolicy": {"Name": "always"}}, "RestartPolicy"),
    "no init": ({"Init": False}, "Init"),
    "no memory limit": ({"Memory": 0, "MemorySwap": 0}, "memory limit"),
    "no limit of processes": ({"PidsLimit": None}, "PidsLimit"),
    "another runtime": ({"Runtime": "runc"}, "Runtime"),
    "a cgroup of its choice": ({"CgroupParent": "/"}, "CgroupParent"),
}


@pytest.mark.parametrize("change", HOST)
async def test_a_job_gets_nothing_beyond_the_template(client: httpx.AsyncClient, work: Work, change: str) -> None:
    more, reason = HOST[change]
    wanted = body(work)
    wanted["HostConfig"] |= more
    await refused(client, wanted, reason)


OUTSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "an image": ({"Image": "debian"}, "image debian is not on the list"),
    "a volume": ({"Volumes": {"/v": {}}}, "Volumes"),
    "no label": ({"Labels": {}}, "label of the installation"),
    "a user name": ({"User": "root"}, "User"),
    "a network": ({"NetworkingConfig": {"EndpointsConfig": {}}}, "NetworkingConfig"),
    "a health check": ({"Healthcheck": {"Test": ["CMD", "true"]}}, "Healthcheck"),
}


@pytest.mark.parametrize("change", OUTSIDE)
async def test_a_job_is_as_the_list_says(client: httpx.AsyncClient, work: Work, change: str) -> None:
    more, reason = OUTSIDE[change]
    await refused(client, body(work) | more, reason)


async def test_a_field_in_other_letters_is_no_way_in(client: httpx.AsyncClient, work: Work) -> None:
    # The engine reads field names whatever their case.
    await refused(client, body(work) | {"hostconfig": {"Privileged": True}}, "hostconfig")


async def test_a_job_writes_only_below_the_lab_and_reads_what_it_may(
    client: httpx.AsyncClient, work: Work, lab: Path
) -> None:
    readable = str(INTERPRETER[0].path)
    wanted = body(work)
    wanted["HostConfig"]["Mounts"] = [bind(readable, read_only=False)]
    await refused(client, wanted, "that jobs may write")
    wanted["HostConfig"]["Mounts"] = [bind(readable, recursive=True)]
    await refused(client, wanted, "must not be recursive")
    (lab / "link").symlink_to("/etc")
    wanted["HostConfig"]["Mounts"] = [bind(str(lab / "link"))]
    await refused(client, wanted, "not a plain path")


async def test_a_name_outside_the_house_is_refused(client: httpx.AsyncClient, work: Work) -> None:
    answer = await client.post("/containers/create", params={"name": "other-payload"}, json=body(work))
    assert (answer.status_code, HOUSE in answer.json()["message"]) == (403, True)


async def refused(client: httpx.AsyncClient, wanted: dict[str, Any], reason: str) -> None:
    answer = await client.post("/containers/create", params={"name": f"{HOUSE}-payload"}, json=wanted)
    assert answer.status_code == 403, answer.text
    message = answer.json()["message"]
    assert message.startswith("the proxy refuses: ") and reason in message
    assert (await client.get(f"/containers/{HOUSE}-payload/json")).status_code == 404


async def test_the_template_itself_is_let_through(client: httpx.AsyncClient, work: Work) -> None:
    answer = await client.post("/containers/create", params={"name": f"{HOUSE}-payload"}, json=body(work))
    assert answer.status_code == 201, answer.text


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
    assert [row["Names"] for row in rows] == [[f"/{HOUSE}-payload"]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/images/json"),
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
    answer = await client.request(method, path)
    assert (answer.status_code, "not among the calls" in answer.text) == (403, True)


async def test_logs_do_not_follow_and_signals_are_numbers(
    client: httpx.AsyncClient, containers: DockerContainers, work: Work
) -> None:
    await containers.start(work.spec(FOREVER, isolated=True, memory_bytes=MEMORY))
    container = f"/containers/{HOUSE}-payload"
    assert (await client.get(f"{container}/logs", params={"tail": "all"})).status_code == 403
    assert (await client.get(f"{container}/logs", params={"tail": "1", "follow": "1"})).content == b""
    assert (await client.post(f"{container}/kill", params={"signal": "KILL; rm"})).status_code == 403


async def test_the_socket_of_the_proxy_is_not_for_everybody(proxy: str) -> None:
    assert Path(proxy.removeprefix("unix://")).stat().st_mode & 0o077 == 0


async def test_an_engine_away_behind_the_gate_is_told(tmp_path: Path, work: Work) -> None:

    limits = Limits(installation=HOUSE, images=frozenset({IMAGE}), readable=(), writable=())
    app = application(tmp_path / "absent.sock", limits)
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
