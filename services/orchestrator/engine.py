"""A rune: one inference engine in a container that only the orchestrator starts, drains, stops and inspects."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

from services.orchestrator.engine_command import rune_spec
from shared.config.ports import container_name
from shared.drivers.containers.port import Containers, ContainerState
from shared.drivers.inference.port import RETRY_AFTER_S, InferenceError

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings
    from shared.drivers.inference.port import Activity, AdmissionControl, Inference

UNPROVEN = "starting: not yet proven"  # the reason that clients get meanwhile
POLL_S = 0.1
ABORTED_WITHIN_S = 10.0  # the time an engine has to drop the requests that were aborted


class Condition(StrEnum):
    """The state of a rune, as observed from outside."""

    DOWN = "down"  #: no container, or one that was stopped on purpose
    CRASHED = "crashed"  #: its container ended by itself
    STARTING = "starting"  #: runs, does not answer yet
    STUCK = "stuck"  #: runs, and has not answered for too long
    SERVING = "serving"


class Rune:
    """One engine of an anvil. `container` is its container's name."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        configuration: Configuration,
        containers: Containers,
        inference: Inference,
        gate: AdmissionControl,
    ) -> None:
        self.name = name
        self.settings = settings
        self.configuration = configuration
        self.containers = containers
        self.inference = inference
        self.gate = gate
        self.config = configuration.runes[name]
        self.container = container_name(configuration.anvil_of(name), name)
        self._answered_at = 0.0
        self._stopped = False

    async def condition(self) -> Condition:
        info = await self.containers.inspect(self.container)
        if info is None:
            return Condition.DOWN
        if info.state is ContainerState.EXITED:
            # A container of an engine stays when it is stopped; only this process knows whether it was on purpose.
            kept = self.config.driver == "docker"
            return Condition.DOWN if kept and (self._stopped or not self._answered_at) else Condition.CRASHED
        if await self.inference.healthy():
            self._answered_at = time.time()
            return Condition.SERVING
        silent_s = time.time() - max(info.started_at, self._answered_at)
        return Condition.STUCK if silent_s > self.config.start_within_s else Condition.STARTING

    async def start(self) -> None:
        """Start it with its admission closed; it is opened once its models are proven."""
        self._stopped = False
        await self.close(UNPROVEN)
        if self.config.driver == "docker":
            await self.containers.revive(self.container)
            return
        await self.containers.start(await rune_spec(self.settings, self.configuration, self.name))

    async def free_memory(self) -> None:
        """Stop it and prove that nothing of it is left, or put it to sleep. May be repeated."""
        if self.config.evacuation == "sleep" and await self.inference.healthy():
            await self.inference.sleep(self.config.sleep_level)
            return
        await self.stop()

    async def stop(self) -> None:
        """Stop it, prove that nothing of it is left, and remove it: what is found exited later has crashed."""
        self._stopped = True
        await self.containers.stop(self.container, self.config.stop_grace_s)
        if self.config.driver == "process" and await self.containers.inspect(self.container):
            await self.containers.remove(self.container)

    async def gone(self) -> bool:
        """True when it has exited, or sleeps, which the measurement of memory has to prove."""
        if self.config.evacuation == "sleep":
            return True
        info = await self.containers.inspect(self.container)
        return info is None or info.state is ContainerState.EXITED

    async def close(self, why: str, retry_after_s: float = RETRY_AFTER_S) -> bool:
        """Let the gateway admit no more requests; False where it is away, or is not before this engine."""
        try:
            return (await self.gate.close(why, retry_after_s)).closed
        except InferenceError:
            return False

    async def open(self) -> bool:
        """Wake it, and let the gateway admit requests; False as in `close`. Raises InferenceError where it does not wake."""
        if self.config.evacuation == "sleep":
            await self.inference.wake(self.config.sleep_level)
        try:
            return not (await self.gate.open()).closed
        except InferenceError:
            return False

    async def activity(self) -> Activity:
        """Its load, by its own metrics and the gateway's counts. Raises InferenceError where the engine does not answer."""
        counts: dict[str, int] = {}
        with suppress(InferenceError):
            gate = await self.gate.admission()
            counts = {"in_flight": gate.in_flight, "admitted_total": gate.admitted_total}
        return (await self.inference.activity()).model_copy(update=counts)

    async def traffic(self) -> Activity:
        """What clients ask of it: by the gateway alone where nothing else reaches it, without what yields to them. Raises as `activity`."""
        measured = await self.activity()
        if not self.config.listens_on_socket:
            return measured
        with suppress(InferenceError):
            gate = await self.gate.admission()
            asked = gate.in_flight - gate.low_priority
            counts = {"running": asked, "waiting": 0, "finished_total": gate.admitted_total - asked, "in_flight": asked}
            return measured.model_copy(update={**counts, "admitted_total": gate.admitted_total})
        return measured

    async def in_flight(self) -> int:
        """Count the requests that are not finished, by the gateway or the engine, whichever counts more. 0 where neither answers."""
        counts = [0]
        # The gateway first: a request that ends between the two reads may then be counted, never overlooked.
        with suppress(InferenceError):
            counts.append((await self.gate.admission()).in_flight)
        with suppress(InferenceError):
            counts.append((await self.inference.activity()).left)
        return max(counts)

    async def drain(self, grace_s: float | None = None) -> int:
        """Wait until no request is in flight, at most `grace_s`; returns how many are left, 0 when it is idle.

        With a grace of 0 it checks once. Close first: an open engine may never drain.
        """
        deadline = monotonic() + (self.config.grace_s if grace_s is None else grace_s)
        idle_before = False
        while (left := await self.in_flight()) or not idle_before:
            if monotonic() >= deadline:
                return left
            idle_before = not left
            await asyncio.sleep(POLL_S)
        return 0

    async def abort(self) -> int:
        """End the requests in flight with a clean error and wait until the engine dropped them. Returns how many."""
        try:
            aborted = await self.gate.abort()
        except InferenceError:
            return 0
        await self.drain(ABORTED_WITHIN_S)
        return aborted

    async def models(self) -> frozenset[str]:
        """The models it answers for; empty when it does not answer."""
        try:
            return await self.inference.models()
        except InferenceError:
            return frozenset()

    async def memory_bytes(self) -> int:
        return await self.containers.memory_bytes(self.container)
