"""A rune: one inference engine in a container, started, emptied, stopped and looked at by the orchestrator only."""

from __future__ import annotations

import time
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

from services.orchestrator.engine_command import rune_spec
from shared.base import find_base
from shared.configuration.ports import container_name
from shared.drivers.containers.port import Containers, ContainerState
from shared.drivers.inference.port import InferenceError

if TYPE_CHECKING:
    from shared.configuration.model import AnvilConfig, RuneConfig
    from shared.drivers.inference.port import Inference
    from shared.settings import Settings


LET_GO_S = 10.0


class Condition(StrEnum):
    """What the rune is doing, as seen from outside."""

    DOWN = "down"  #: no container, or one that was stopped on purpose
    CRASHED = "crashed"  #: its container ended, and nobody asked it to
    STARTING = "starting"  #: runs, does not answer yet
    STUCK = "stuck"  #: runs, and has not answered for too long
    SERVING = "serving"


class Rune:
    """One engine of an anvil. `container` is its container's name."""

    def __init__(
        self,
        name: str,
        config: RuneConfig,
        settings: Settings,
        anvil: str,
        device: AnvilConfig,
        containers: Containers,
        inference: Inference,
    ) -> None:
        self.name = name
        self.config = config
        self.settings = settings
        self.anvil = anvil
        self.device = device
        self.containers = containers
        self.inference = inference
        self.container = container_name(anvil, name)
        self._answered_at = 0.0
        self._left = False

    async def condition(self) -> Condition:
        info = await self.containers.inspect(self.container)
        if info is None:
            return Condition.DOWN
        if info.state is ContainerState.EXITED:
            # A container that is made once stays when it is stopped; whether that was meant is known to who stopped it.
            kept = self.config.driver == "docker"
            return Condition.DOWN if kept and (self._left or not self._answered_at) else Condition.CRASHED
        if await self.inference.healthy():
            self._answered_at = time.time()
            return Condition.SERVING
        silent_s = time.time() - max(info.started_at, self._answered_at)
        return Condition.STUCK if silent_s > self.config.start_within_s else Condition.STARTING

    async def start(self) -> None:
        """Start it with its admission closed: it is opened once its models are proven."""
        self._left = False
        if self.config.driver == "docker":
            await self.containers.revive(self.container)
            return
        house = self.settings.model_copy(update={"base": self.config.base or self.settings.base})
        await self.containers.start(
            rune_spec(self.container, self.anvil, self.device, self.config, house, find_base(house))
        )

    async def leave(self) -> None:
        """Free the anvil's memory: end it and prove that nothing of it is left, or put it to sleep. May be repeated."""
        if self.config.evacuation == "sleep" and await self.inference.healthy():
            await self.inference.sleep(self.config.sleep_level)
            return
        with suppress(InferenceError):
            # Who asks from now on is not connected at all, instead of being cut off by the closing socket.
            await self.inference.leave()
        await self.stop()

    async def stop(self) -> None:
        """End it, prove that nothing of it is left, and forget it: what is found ended later has crashed."""
        self._left = True
        await self.containers.stop(self.container, self.config.stop_grace_s)
        if self.config.driver == "process" and await self.containers.inspect(self.container):
            await self.containers.remove(self.container)

    async def gone(self) -> bool:
        """True when it holds the anvil no more: it ended, or it sleeps, which the measurement of memory has to show."""
        if self.config.evacuation == "sleep":
            return True
        info = await self.containers.inspect(self.container)
        return info is None or info.state is ContainerState.EXITED

    async def close(self, why: str, fence: int) -> bool:
        """Admit no more requests; False when the engine cannot, or is away."""
        try:
            return (await self.inference.close(f"{why} (fence {fence})")).closed
        except InferenceError:
            return False

    async def open(self) -> None:
        """Admit requests, awake. Raises InferenceError."""
        if self.config.evacuation == "sleep":
            await self.inference.wake(self.config.sleep_level)
        await self.inference.open()

    async def under_way(self) -> int:
        """Requests that it works on or that wait in it; none when it is away."""
        try:
            return (await self.inference.activity()).left
        except InferenceError:
            return 0

    async def drain(self) -> int:
        """Wait until nothing is under way, as long as its grace allows. Returns how many requests are left."""
        try:
            return await self.inference.drain(self.config.grace_s)
        except InferenceError:
            return 0

    async def abort(self) -> int:
        """End what is under way with a clean error, and see the engine let go of it; returns how many."""
        try:
            aborted = await self.inference.abort()
            await self.inference.drain(LET_GO_S)
            return aborted
        except InferenceError:
            return 0

    async def models(self) -> frozenset[str]:
        """What it answers for; empty when it does not answer."""
        try:
            return await self.inference.models()
        except InferenceError:
            return frozenset()

    async def memory_bytes(self) -> int:
        return await self.containers.memory_bytes(self.container)
