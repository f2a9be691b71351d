"""The anvil as the orchestrator handles it: its runes, its queues, its memory, and the jobs that may run on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from services.orchestrator.engine import Rune
from services.orchestrator.scheduling.load import Traffic, TrafficHistory, combine
from services.orchestrator.settings import OrchestratorSettings
from shared.contracts.evacuate import GpuRefused
from shared.drivers.accelerators.cpu import CpuAccelerator
from shared.drivers.accelerators.nvml import NvmlAccelerator, load_nvml
from shared.drivers.containers.open import open_containers
from shared.drivers.containers.port import ContainerState
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm
from shared.drivers.queues import open_queue

if TYPE_CHECKING:
    from shared.configuration.model import AnvilConfig, Configuration
    from shared.drivers.accelerators.port import Accelerator
    from shared.drivers.containers.port import Containers
    from shared.drivers.queues.port import WorkerQueue
    from shared.ledger import Ritual
    from shared.service import Station

log = structlog.get_logger()
TAKEN = "the anvil is taken for training"  # what clients and workers are told meanwhile
JOB_ROLES = ("trainer", "evaluator")


class TrafficMonitor:
    """Samples the requests that an anvil's runes get; starts over with the process."""

    def __init__(self) -> None:
        self._histories: dict[str, TrafficHistory] = {}

    async def sample(self, runes: tuple[Rune, ...]) -> None:
        for rune in runes:
            try:
                activity = await rune.inference.activity()
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
    """Everything behind one name that is leased as one. `runes` stand in the order in which they start."""

    station: Station
    own: OrchestratorSettings
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
        """True when a rune of it keeps its process while it is evacuated."""
        return any(rune.config.evacuation == "sleep" for rune in self.runes)

    async def queued_jobs(self) -> int:
        """Jobs that wait in the queues whose workers use this anvil."""
        return sum([await queue.waiting() for queue in self.queues.values()])

    def holder(self, fence: int) -> str:
        """Who holds the queues during the hand-over of that fence."""
        return f"{self.name}/{fence}"

    async def refuse(self, ritual: Ritual, reason: str) -> bool:
        """State that this anvil is not given to the ritual; False when the rows have moved on."""
        refused = GpuRefused(
            ritual=ritual.id, persona=ritual.persona, attempt=ritual.attempt, anvil=self.name, reason=reason
        )
        return await self.station.state(refused, ritual.entered_at)

    async def end_jobs(self, why: str, grace_s: float = 0.0) -> None:
        """End and forget every job on this anvil; returns when nothing is left, raises ContainerError otherwise."""
        for role in JOB_ROLES:
            for info in await self.jobs.list({"role": role, "anvil": self.name}):
                if info.state is ContainerState.RUNNING:
                    log.warning("job ended", container=info.name, why=why, grace_s=grace_s)
                    await self.jobs.stop(info.name, grace_s)
                await self.jobs.remove(info.name)

    async def end_strangers(self) -> None:
        """Stop every container that was once a rune of this anvil and is none by today's configuration."""
        known = {rune.container for rune in self.runes}
        for containers in {id(rune.containers): rune.containers for rune in self.runes}.values():
            for info in await containers.list({"role": "rune", "anvil": self.name}):
                if info.name not in known:
                    log.warning("a rune that is not configured is stopped", container=info.name, anvil=self.name)
                    await containers.stop(info.name, 15.0)
                    await containers.remove(info.name)


def open_anvils(station: Station) -> tuple[Anvil, ...]:
    """Every anvil of the configuration. Raises AcceleratorError where a device cannot be asked."""
    return tuple(_open(station, name, config) for name, config in station.configuration.anvils.items())


def _open(station: Station, name: str, config: AnvilConfig) -> Anvil:
    house, configured = station.settings, station.configuration
    runes = tuple(
        Rune(
            rune,
            plan.model_copy(update={"port": configured.port_of(rune, house)}),
            house,
            name,
            config,
            open_containers(house, plan.driver, configured.docker),
            Vllm(configured.rune_url(house, rune), inside=True),
        )
        for rune, plan in configured.runes_of(name).items()
    )
    return Anvil(
        station,
        OrchestratorSettings(),
        name,
        config,
        runes,
        _accelerator(config, runes),
        open_containers(house, configured.jobs.driver, configured.docker),
        _queues(station, configured, name),
        trains=name == configured.forge,
    )


def _queues(station: Station, configured: Configuration, anvil: str) -> dict[str, WorkerQueue]:
    return {
        name: open_queue(config, station.settings.database_url, station.nats)
        for name, config in configured.queues_of(anvil).items()
    }


def _accelerator(config: AnvilConfig, runes: tuple[Rune, ...]) -> Accelerator:
    if config.accelerator == "nvml":
        return NvmlAccelerator(config.devices, load_nvml())

    async def resident() -> int:
        return sum([await rune.memory_bytes() for rune in runes])

    return CpuAccelerator(resident)
