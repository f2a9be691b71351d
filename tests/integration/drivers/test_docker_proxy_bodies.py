"""What a client may ask a new container to be: the template within the limits, and nothing else. Before a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from deploy.docker.binds import Binds
from deploy.docker.forward import application
from deploy.docker.limits import Limits
from tests.support.engine import IMAGE
from tests.support.payloads import INTERPRETER, MEBIBYTE, Work
from tests.support.proxied import HOUSE, JOB, MEMORY, USER, bind, body, connected

pytestmark = pytest.mark.asyncio
READABLE = str(INTERPRETER[0].path)
SCRATCH = "rw,exec,nosuid,nodev,mode=1777"
COVER = "ro,nosuid,nodev,noexec,mode=755"


@pytest.fixture
def work(lab: Path) -> Work:
    directory = lab / uuid4().hex[:8]
    directory.mkdir()
    return Work(directory)


@pytest_asyncio.fixture
async def client(proxied: str) -> AsyncIterator[httpx.AsyncClient]:
    """The proxy; a container that it should not have created is removed."""
    async with connected(proxied) as client:
        yield client
        await client.delete(f"/containers/{JOB}")


def gpu(*devices: str) -> dict[str, Any]:
    request = {"Driver": "nvidia", "Count": 0, "DeviceIDs": list(devices), "Capabilities": [["gpu"]]}
    return {"DeviceRequests": [request]}


HOST: dict[str, tuple[dict[str, Any], str]] = {
    "a privileged one": ({"Privileged": True}, "Privileged"),
    "a capability": ({"CapAdd": ["SYS_ADMIN"]}, "CapAdd"),
    "all capabilities": ({"CapDrop": []}, "CapDrop"),
    "new privileges": ({"SecurityOpt": []}, "SecurityOpt"),
    "no seccomp": ({"SecurityOpt": ["seccomp=unconfined"]}, "SecurityOpt"),
    "no apparmor": ({"SecurityOpt": ["no-new-privileges", "apparmor=unconfined"]}, "SecurityOpt"),
    "the host's network": ({"NetworkMode": "host"}, "NetworkMode"),
    "another's network": ({"NetworkMode": "container:rune"}, "NetworkMode"),
    "the bridge": ({"NetworkMode": "bridge"}, "NetworkMode"),
    "a port": ({"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}, "PortBindings"),
    "the host's processes": ({"PidMode": "host"}, "PidMode"),
    "a rune's processes": ({"PidMode": "container:rune"}, "PidMode"),
    "the host's memory segments": ({"IpcMode": "host"}, "IpcMode"),
    "the host's users": ({"UsernsMode": "host"}, "UsernsMode"),
    "the host's name": ({"UTSMode": "host"}, "UTSMode"),
    "the host's cgroups": ({"CgroupnsMode": "host"}, "CgroupnsMode"),
    "a writable root": ({"ReadonlyRootfs": False}, "ReadonlyRootfs"),
    "a device": ({"Devices": [{"PathOnHost": "/dev/vda"}]}, "Devices"),
    "a rule for devices": ({"DeviceCgroupRules": ["a *:* rwm"]}, "DeviceCgroupRules"),
    "an old-style bind": ({"Binds": ["/:/host"]}, "Binds"),
    "the volumes of another": ({"VolumesFrom": ["rune"]}, "VolumesFrom"),
    "a volume": ({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}]}, "Mounts"),
    "the host's root": ({"Mounts": [bind("/")]}, "that jobs may read"),
    "the host's processes as files": ({"Mounts": [bind("/proc/1/root")]}, "that jobs may read"),
    "the engine's socket": ({"Mounts": [bind("/var/run/docker.sock")]}, "/var/run/docker.sock"),
    "a way around": ({"Mounts": [bind("/tmp/../etc")]}, "not a plain path"),
    "a way out of a root": ({"Mounts": [bind(f"{READABLE}/../../../etc")]}, "not a plain path"),
    "a way with two slashes": ({"Mounts": [bind(f"/{READABLE}")]}, "not a plain path"),
    "a way with an end": ({"Mounts": [bind(f"{READABLE}/")]}, "not a plain path"),
    "a neighbour of a root": ({"Mounts": [bind(f"{READABLE}-more")]}, "that jobs may read"),
    "a relative path": ({"Mounts": [bind("etc")]}, "not a plain path"),
    "a path with a zero": ({"Mounts": [bind(f"{READABLE}/\0")]}, "not a plain absolute path"),
    "another place inside": ({"Mounts": [bind("/tmp", "/etc")]}, "same inside as outside"),
    "to write what it may read": ({"Mounts": [bind(READABLE, read_only=False)]}, "that jobs may write"),
    "a recursive bind": ({"Mounts": [bind(READABLE, recursive=True)]}, "must not be recursive"),
    "a shared bind": ({"Mounts": [bind(READABLE) | {"BindOptions": {"Propagation": "rshared"}}]}, "Propagation"),
    "a cover of the image": ({"Mounts": [bind("/dev/null", "/etc/passwd")]}, "not below a bind"),
    "a writable cover": ({"Mounts": [bind("/dev/null", "/etc/passwd", read_only=False)]}, "inside as outside"),
    "too many binds": ({"Mounts": [bind(READABLE)] * 65}, "more than 64"),
    "a tmpfs over the image": ({"Tmpfs": {"/etc": COVER}}, "not below a bind"),
    "a tmpfs that runs setuid": ({"Tmpfs": {"/tmp": f"rw,exec,suid,size={MEBIBYTE}"}}, "options of the template"),
    "a tmpfs with devices": (
        {"Tmpfs": {"/tmp": f"{SCRATCH.replace('nodev', 'dev')},size=1"}},
        "options of the template",
    ),
    "a tmpfs without a size": ({"Tmpfs": {"/tmp": SCRATCH}}, "a size of at most"),
    "a tmpfs above the memory": ({"Tmpfs": {"/tmp": f"{SCRATCH},size={MEMORY + 1}"}}, "a size of at most"),
    "a tmpfs of two sizes": ({"Tmpfs": {"/tmp": f"{SCRATCH},size=1,size={1 << 40}"}}, "a size of at most"),
    "a tmpfs elsewhere": ({"Tmpfs": {"/opt": f"{SCRATCH},size=1"}}, "neither scratch"),
    "a tmpfs around": ({"Tmpfs": {"/tmp/../etc": COVER}}, "absolute path"),
    "more shared memory than memory": ({"ShmSize": MEMORY + 1}, "/dev/shm"),
    "shared memory below nothing": ({"ShmSize": -1}, "/dev/shm"),
    "a restart": ({"RestartPolicy": {"Name": "always"}}, "RestartPolicy"),
    "no init": ({"Init": False}, "Init"),
    "no memory limit": ({"Memory": 0, "MemorySwap": 0}, "memory limit"),
    "memory below nothing": ({"Memory": -1, "MemorySwap": -1}, "memory limit"),
    "more memory than a job may have": ({"Memory": 1 << 31, "MemorySwap": 1 << 31}, "at most 1073741824"),
    "swap": ({"MemorySwap": -1}, "no swap"),
    "a life beyond the memory": ({"OomKillDisable": True}, "OomKillDisable"),
    "a better place at the end of memory": ({"OomScoreAdj": -1000}, "OomScoreAdj"),
    "no limit of processes": ({"PidsLimit": None}, "PidsLimit"),
    "unlimited processes": ({"PidsLimit": -1}, "PidsLimit"),
    "more processes than a job may have": ({"PidsLimit": 4097}, "at most 4096 processes"),
    "more open files": ({"Ulimits": [{"Name": "nofile", "Hard": 1 << 20}]}, "Ulimits"),
    "CPUs": ({"NanoCpus": 10**12}, "the proxy's to set"),
    "the time of the machine": ({"CpuRealtimeRuntime": 950000}, "CpuRealtimeRuntime"),
    "a share of the CPUs": ({"CpuShares": 1 << 18}, "CpuShares"),
    "another GPU": (gpu("1"), "not on the list of devices: 1"),
    "all GPUs": (gpu("all"), "not on the list of devices: all"),
    "a GPU without a number": (gpu(), "DeviceIDs"),
    "GPUs by their count": ({"DeviceRequests": [{"Driver": "nvidia", "Count": -1}]}, "DeviceRequests"),
    "another runtime": ({"Runtime": "runc"}, "Runtime"),
    "a cgroup of its choice": ({"CgroupParent": "/"}, "CgroupParent"),
    "a setting of the kernel": ({"Sysctls": {"kernel.shm_rmid_forced": "0"}}, "Sysctls"),
    "a group": ({"GroupAdd": ["0"]}, "GroupAdd"),
    "what engines mask": ({"MaskedPaths": []}, "MaskedPaths"),
    "what engines keep from writing": ({"ReadonlyPaths": []}, "ReadonlyPaths"),
    "logs for the machine": ({"LogConfig": {"Type": "syslog"}}, "LogConfig"),
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
    "no user": ({"User": ""}, "User"),
    "a user name": ({"User": "root"}, "User"),
    "root": ({"User": "0:0"}, f"jobs run as {USER}"),
    "root by another number": ({"User": "00:00"}, f"jobs run as {USER}"),
    "root's group": ({"User": "65532:0"}, f"jobs run as {USER}"),
    "another user": ({"User": "1000:1000"}, f"jobs run as {USER}"),
    "a user without a group": ({"User": "65532"}, "User"),
    "a network": ({"NetworkingConfig": {"EndpointsConfig": {}}}, "NetworkingConfig"),
    "a health check": ({"Healthcheck": {"Test": ["CMD", "true"]}}, "Healthcheck"),
    "too many variables": ({"Env": [f"N{n}=1" for n in range(65)]}, "more than 64"),
    "too many words": ({"Entrypoint": ["true"] * 65}, "more than 64"),
    "a large body": ({"Env": ["N=" + "x" * (1 << 16)]}, "more than 65536 bytes"),
    "fields in other letters": ({"hostconfig": {"Privileged": True}}, "hostconfig"),  # an engine reads any case
}


@pytest.mark.parametrize("change", OUTSIDE)
async def test_a_job_is_as_the_list_says(client: httpx.AsyncClient, work: Work, change: str) -> None:
    more, reason = OUTSIDE[change]
    await refused(client, body(work) | more, reason)


LABELS: dict[str, tuple[str, dict[str, str], str]] = {
    "no installation": (JOB, {"soulforge-installation": ""}, "label of the installation"),
    "another installation": (JOB, {"soulforge-installation": "soulforge"}, "label of the installation"),
    "those of a rune": (JOB, {"soulforge-isolated": "no"}, "the label of a job"),
    "the role of a rune": (JOB, {"soulforge.role": "rune"}, "the labels of a rune"),
    "those of another program": (JOB, {"com.docker.compose.project": "x"}, "labels of Soulforge only"),
    "another name": (JOB, {"soulforge-name": "other"}, "the name must be that of the label"),
    "no name": (f"{HOUSE}-", {"soulforge-name": ""}, "the label soulforge-name is missing"),
    "a name outside": ("other-payload", {}, "the name must be that of the label"),
    "no name at all": ("", {}, "the name must be that of the label"),
    "a rune's name": (f"{HOUSE}-rune-anvil0-rune", {"soulforge-name": "rune-anvil0-rune"}, "names of runes"),
    "a neighbour's rune": (f"{HOUSE}-b-rune-gpu0-chat", {"soulforge-name": "b-rune-gpu0-chat"}, "names of runes"),
    "a path as a name": (f"{HOUSE}-a/../../x", {"soulforge-name": "a/../../x"}, "not a name of a container"),
    "a long name": (f"{HOUSE}-{'a' * 200}", {"soulforge-name": "a" * 200}, "not a name of a container"),
    "too many": (JOB, {f"soulforge.{n}": "" for n in range(65)}, "more than 64"),
}


@pytest.mark.parametrize("change", LABELS)
async def test_a_job_is_named_and_labelled_as_a_job(client: httpx.AsyncClient, work: Work, change: str) -> None:
    name, labels, reason = LABELS[change]
    wanted = body(work)
    wanted["Labels"] |= labels
    await refused(client, wanted, reason, name)


async def refused(client: httpx.AsyncClient, wanted: dict[str, Any], reason: str, name: str = JOB) -> None:
    answer = await client.post("/containers/create", params={"name": name}, json=wanted)
    assert answer.status_code == 403, answer.text
    message = answer.json()["message"]
    assert message.startswith("the proxy refuses: ") and reason in message, message
    assert (await client.get(f"/containers/{JOB}/json")).status_code == 404


async def test_the_template_itself_is_let_through(client: httpx.AsyncClient, work: Work) -> None:
    wanted = body(work)
    wanted["HostConfig"] |= gpu("0")
    answer = await client.post("/containers/create", params={"name": JOB}, json=wanted)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(("rootless", "status"), [(False, 403), (True, 201)])
async def test_jobs_are_root_inside_only_where_the_engine_itself_is_rootless(
    work: Work, lab: Path, tmp_path: Path, rootless: bool, status: int
) -> None:
    limits = Limits(installation=HOUSE, images=frozenset({IMAGE}), readable=(Path("/"),), writable=(lab,), user="0:0")
    socket = tmp_path / "engine.sock"
    server = await asyncio.start_unix_server(recorded('["name=rootless"]' if rootless else "[]"), socket)
    app = application(socket, limits, Binds(tmp_path / "binds"))
    Binds(tmp_path / "binds").prepare()
    transport = httpx.ASGITransport(app)
    async with (
        server,
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://proxy") as client,
    ):
        wanted = body(work) | {"User": "0:0"}
        answer = await client.post("/v1.41/containers/create", params={"name": JOB}, json=wanted)
    assert (answer.status_code, "the engine is not rootless" in answer.text) == (status, not rootless)


def recorded(options: str) -> Any:
    """An engine that answers every request as one that has these security options, and creates any container."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        text = f'{{"SecurityOptions": {options}}}'
        status = "201 Created" if line.startswith(b"POST") else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()

    return answer
