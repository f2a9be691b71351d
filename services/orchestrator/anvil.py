"""The anvil as the orchestrator handles it: its rune, its memory, and the jobs that may run on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from services.orchestrator.rune import Rune
from services.orchestrator.settings import OrchestratorSettings
from shared.drivers.accelerators.cpu import CpuAccelerator
from shared.drivers.accelerators.nvml import NvmlAccelerator, load_nvml
from shared.drivers.containers.port import ContainerState
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm

if TYPE_CHECKING:
    from shared.drivers.accelerators.port import Accelerator
    from shared.drivers.containers.port import Containers
    from shared.service import Station

log = structlog.get_logger()
JOB_ROLES = ("trainer", "evaluator")


@dataclass(frozen=True)
class Anvil:
    """Everything behind one name that is leased as one."""

    station: Station
    own: OrchestratorSettings
    containers: Containers
    rune: Rune
    accelerator: Accelerator

    @property
    def name(self) -> str:
        return self.station.settings.anvil

    async def models(self) -> frozenset[str]:
        """What the rune answers for; empty when it does not answer."""
        try:
            return await self.rune.inference.models()
        except InferenceError:
            return frozenset()

    async def end_jobs(self, why: str) -> None:
        """Kill and forget every job on this anvil; returns when nothing is left, raises ContainerError otherwise."""
        for role in JOB_ROLES:
            for info in await self.containers.list({"role": role, "anvil": self.name}):
                if info.state is ContainerState.RUNNING:
                    log.warning("job ended", container=info.name, why=why)
                    await self.containers.kill(info.name)
                await self.containers.remove(info.name)


def open_anvil(station: Station) -> Anvil:
    own = OrchestratorSettings()
    containers = ProcessContainers(station.settings.containers_dir)
    rune = Rune(station.settings, own, containers, Vllm(station.settings.rune_url))
    return Anvil(station, own, containers, rune, _accelerator(own, rune))


def _accelerator(own: OrchestratorSettings, rune: Rune) -> Accelerator:
    if own.accelerator == "cpu":
        return CpuAccelerator(rune.memory_bytes)
    return NvmlAccelerator(own.devices, load_nvml())
