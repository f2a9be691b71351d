"""An anvil as the orchestrator handles it: its runes, queues and memory, and the jobs that may run on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.engine import Rune
from services.orchestrator.scheduling.load import Traffic, TrafficHistory, combine
from shared.contracts.evacuate import GpuRefused
from shared.contracts.ritual import State
from shared.drivers.accelerators.cpu import CpuAccelerator
from shared.drivers.accelerators.nvml import NvmlAccelerator, load_nvml
from shared.drivers.containers.open import open_containers
from shared.drivers.containers.port import ContainerState
from shared.drivers.inference.open import open_gate, open_rune
from shared.drivers.inference.port import RETRY_AFTER_S, InferenceError
from shared.drivers.queues import open_queue

if TYPE_CHECKING:
    from services.orchestrator.settings import OrchestratorSettings
    from shared.config.model import AnvilConfig
    from shared.drivers.accelerators.port import Accelerator
    from shared.drivers.containers.port import Containers
    from shared.drivers.queues.port import WorkerQueue
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()
TAKEN = "the anvil is taken for training"  # the reason that clients and workers get meanwhile
JOB_ROLES = ("trainer", "evaluator")
WORKERS = {State.EVACUATED: "forge", State.FORGED: "verifier"}  # the services that work on an anvil, by state
UNKNOWN_GRACE_S = 15.0


class TrafficMonitor:
    """Samples the requests that an anvil's runes get; starts over with the process."""

    def __init__(self) -> None:
        self._histories: dict[str, TrafficHistory] = {}

    async def sample(self, runes: tuple[Rune, ...]) -> None:
        for rune in runes:
            try:
                activity = await rune.traffic()
            except InferenceError:
                activity = None
            history = self._histories.get(rune.name, TrafficHistory())
            self._histories[rune.name] = history.add(monotonic(), activity)

    def traffic(self) -> Traffic:
        """The traffic of all runes together; unknown before the first sample."""
        now = monotonic()
        return combine([history.traffic(now) for history in self._histories.values()])


@dataclass(frozen=True)
class Anvil:
    """Everything behind one name that is leased as one. `runes` are in the order in which they start.

    `settings` are the orchestrator's; the common ones are the context's.
    """

    context: ServiceContext
    settings: OrchestratorSettings
    name: str
    config: AnvilConfig
    runes: tuple[Rune, ...]
    accelerator: Accelerator
    jobs: Containers
    queues: dict[str, WorkerQueue] = field(default_factory=dict)
    trains: bool = True
    monitor: TrafficMonitor = field(default_factory=TrafficMonitor)

    @property
    def sleeps(self) -> bool:
        """True when one of its runes keeps its process while the anvil is evacuated."""
        return any(rune.config.evacuation == "sleep" for rune in self.runes)

    async def models(self) -> tuple[str, ...]:
        """The models that its runes answer for now."""
        return tuple(sorted({model for rune in self.runes for model in await rune.models()}))

    async def close(self, rune: Rune, fence: int) -> bool:
        """Close a rune for the hand-over with that fence, for as long as it is expected to take. Result as of `Rune.close`."""
        expected_s = await store.get_expected_s(self.context.pool, self.name, fence)
        return await rune.close(f"{TAKEN} (fence {fence})", expected_s or RETRY_AFTER_S)

    async def close_again(self, fence: int) -> None:
        """Close every rune again: a gateway that was away, or has lost its state, may be back."""
        for rune in self.runes:
            await self.close(rune, fence)

    async def count_queued_jobs(self) -> int:
        """Count the jobs that wait in the queues whose workers use this anvil."""
        return sum([await queue.waiting() for queue in self.queues.values()])

    def holder(self, fence: int) -> str:
        """The name under which the queues are held during the hand-over with that fence."""
        return f"{self.name}/{fence}"

    async def refuse(self, ritual: Ritual, reason: str) -> bool:
        """Record that the ritual does not get this anvil; False when the rows have moved on."""
        refused = GpuRefused(
            ritual=ritual.id, persona=ritual.persona, attempt=ritual.attempt, anvil=self.name, reason=reason
        )
        return await self.context.record(refused, ritual.entered_at)

    async def end_jobs(self, why: str, grace_s: float = 0.0, but_of: int | None = None) -> set[str]:
        """Stop and remove every job on this anvil, but those of the fence `but_of`. Returns the fences of the others.

        Raises ContainerError where one is left.
        """
        ended: set[str] = set()
        for role in JOB_ROLES:
            for info in await self.jobs.list({"role": role, "anvil": self.name}):
                fence = info.labels.get("fence", "")
                if fence == str(but_of):
                    continue
                ended.add(fence)
                if info.state is ContainerState.RUNNING:
                    log.warning("job stopped", container=info.name, why=why, grace_s=grace_s)
                    await self.jobs.stop(info.name, grace_s)
                await self.jobs.remove(info.name)
        return ended

    async def stop_unknown_containers(self) -> None:
        """Stop and remove rune containers of this anvil that the present configuration does not name."""
        known = {rune.container for rune in self.runes}
        for containers in {id(rune.containers): rune.containers for rune in self.runes}.values():
            for info in await containers.list({"role": "rune", "anvil": self.name}):
                if info.name not in known:
                    log.warning("rune stopped: it is not configured", container=info.name, anvil=self.name)
                    await containers.stop(info.name, UNKNOWN_GRACE_S)
                    await containers.remove(info.name)


def open_anvils(context: ServiceContext, settings: OrchestratorSettings) -> tuple[Anvil, ...]:
    """Every anvil of the configuration with its drivers. Raises AcceleratorError where a device cannot be read."""
    return tuple(_open(context, settings, name, config) for name, config in context.configuration.anvils.items())


def _open(context: ServiceContext, settings: OrchestratorSettings, name: str, config: AnvilConfig) -> Anvil:
    common, configuration = context.settings, context.configuration
    runes = _open_runes(context, name)
    return Anvil(
        context,
        settings,
        name,
        config,
        runes,
        _open_accelerator(config, runes),
        open_containers(common, configuration.jobs.driver, configuration.docker),
        {
            queue: open_queue(queue_config, common.database_url("worker"), context.nats)
            for queue, queue_config in configuration.queues_of(name).items()
        },
        trains=name == configuration.forge,
    )


def _open_runes(context: ServiceContext, anvil: str) -> tuple[Rune, ...]:
    settings, configuration = context.settings, context.configuration
    return tuple(
        Rune(
            name,
            settings,
            configuration,
            open_containers(settings, config.driver, configuration.docker),
            open_rune(configuration, settings, name),
            open_gate(settings, name),
        )
        for name, config in configuration.runes_of(anvil).items()
    )


def _open_accelerator(config: AnvilConfig, runes: tuple[Rune, ...]) -> Accelerator:
    if config.accelerator == "nvml":
        return NvmlAccelerator(config.devices, load_nvml())

    async def resident_bytes() -> int:
        return sum([await rune.memory_bytes() for rune in runes])

    return CpuAccelerator(resident_bytes)
