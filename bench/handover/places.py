"""The places where the engine runs, and how it is stopped and started there without the orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import docker

from deploy.cli.commands.runes import create_containers
from deploy.services import load_configuration
from services.orchestrator.engine_command import rune_spec
from shared.drivers.containers.docker import DockerContainers
from tests.support.engine import IMAGE, daemon
from tests.support.orchestrated import RUNE

if TYPE_CHECKING:
    from tests.support.orchestrated import Orchestrated

GRACE_S = 20
TIMES: dict[str, Any] = {"grace_s": 60.0, "stop_grace_s": GRACE_S, "free_within_s": 20.0, "start_within_s": 400.0}


class Place(Protocol):
    async def stop(self) -> None: ...
    async def start(self) -> None: ...


class ProcessPlace:
    """The rune as a process tree."""

    def __init__(self, ours: Orchestrated) -> None:
        self._ours = ours

    async def stop(self) -> None:
        await self._ours.containers.stop(RUNE, GRACE_S)
        await self._ours.containers.remove(RUNE)

    async def start(self) -> None:
        settings = self._ours.settings
        configuration = load_configuration(settings)
        await self._ours.containers.start(await rune_spec(settings, configuration, "rune"))


class DockerPlace:
    """The rune as a container, by the calls of `docker stop` and `docker start`."""

    def __init__(self, url: str, name: str) -> None:
        self._client = docker.DockerClient(base_url=url, timeout=120)
        self._name = name

    async def stop(self) -> None:
        await asyncio.to_thread(self._client.api.stop, self._name, timeout=GRACE_S)

    async def start(self) -> None:
        await asyncio.to_thread(self._client.api.start, self._name)

    def close(self) -> None:
        self._client.close()


@asynccontextmanager
async def process_place(ours: Orchestrated) -> AsyncIterator[Place]:
    ours.configure(real=True, **TIMES)
    yield ProcessPlace(ours)


@asynccontextmanager
async def docker_place(ours: Orchestrated) -> AsyncIterator[Place]:
    """A container engine of the benchmark's own, with the rune's container made by `soulforge runes create`."""
    with daemon() as engine:
        url = engine.url
        ours.configure(
            real=True, **TIMES, image=IMAGE, more=f'[docker]\nhost = "{url}"\ninstallation = "soulforge-bench"\n'
        )
        await create_containers(ours.settings)
        place = DockerPlace(url, f"soulforge-bench-{RUNE}")
        try:
            yield place
        finally:
            place.close()
            containers = DockerContainers(url, installation="soulforge-bench")
            await containers.kill(RUNE)
            await containers.remove(RUNE)
