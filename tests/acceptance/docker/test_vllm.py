"""A real vLLM in a container: it serves on its socket, stops within its grace, and leaves no memory behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from shared.config.tables import JobsConfig
from shared.drivers.containers.docker import DockerContainers
from shared.drivers.containers.port import ContainerSpec, ContainerState, Mount
from tests.support.engine import IMAGE
from tests.support.model import JOBS_PYTHON, MODEL

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(600)]
READY_S = 400
GRACE_S = 60.0
GIB = 1 << 30


@pytest_asyncio.fixture
async def containers(engine: str) -> AsyncIterator[DockerContainers]:
    driver = DockerContainers(engine, IMAGE, f"test-{uuid4().hex[:8]}")
    yield driver
    for info in await driver.list({}):
        await driver.kill(info.name)
        await driver.remove(info.name)


def vllm(sockets: Path, cache: Path) -> ContainerSpec:
    return ContainerSpec(
        name="rune",
        command=(
            *(str(JOBS_PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL)),
            *("--served-model-name", "base", "--uds", str(sockets / "engine.sock"), "--dtype", "bfloat16"),
            *("--enforce-eager", "--max-model-len", "512", "--max-num-seqs", "4", "--enable-lora"),
        ),
        cwd=cache,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(cache),
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "LANG": "C.UTF-8",
        },
        labels={"role": "rune", "anvil": "anvil0"},
        mounts=(
            *(Mount(path=path) for path in (*JobsConfig(python=JOBS_PYTHON).mounted, MODEL)),
            *(Mount(path=path, read_only=False) for path in (cache, sockets)),
        ),
        capabilities=("SYS_NICE",),
        shm_bytes=GIB,
    )


async def test_a_vllm_serves_on_its_socket_stops_and_leaves_no_memory(
    containers: DockerContainers, tmp_path: Path
) -> None:
    assert MODEL.is_dir(), "the base model is missing: make test-docker prepares it"
    cache, sockets = tmp_path / "cache", tmp_path / "run"
    cache.mkdir()
    sockets.mkdir(mode=0o700)
    await containers.create(vllm(sockets, cache))
    started = time.monotonic()
    assert (await containers.revive("rune")).state is ContainerState.RUNNING
    transport = httpx.AsyncHTTPTransport(uds=str(sockets / "engine.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
        await healthy(client, containers)
        ready_s = time.monotonic() - started
        asked = {"model": "base", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
        answer = (await client.post("/v1/completions", json=asked)).json()
    assert "Paris" in answer["choices"][0]["text"]
    held = await containers.memory_bytes("rune")
    assert held > GIB
    stopping = time.monotonic()
    await containers.stop("rune", GRACE_S)
    stop_s = time.monotonic() - stopping
    assert stop_s < GRACE_S, "it was killed, not stopped"
    assert await containers.memory_bytes("rune") == 0
    info = await containers.inspect("rune")
    assert info is not None
    assert info.state is ContainerState.EXITED
    print(f"\nvLLM in a container: first answer after {ready_s:.0f} s, {held / GIB:.1f} GiB, stopped in {stop_s:.1f} s")


async def healthy(client: httpx.AsyncClient, containers: DockerContainers) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        info = await containers.inspect("rune")
        if info is None or info.state is ContainerState.EXITED or time.monotonic() > deadline:
            pytest.fail(f"vLLM does not answer ({info}):\n{await containers.logs('rune', 60)}")
        try:
            if (await client.get("/health")).is_success:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.5)
