"""The rune of an anvil: one vLLM in a container, started, stopped and looked at by the orchestrator only."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING

from services.orchestrator.settings import OrchestratorSettings
from shared.drivers.containers.port import Containers, ContainerSpec, ContainerState

if TYPE_CHECKING:
    from shared.base import Base
    from shared.drivers.inference.port import Inference
    from shared.settings import Settings

ROLE = "rune"


class Condition(StrEnum):
    """What the rune is doing, as seen from outside."""

    DOWN = "down"  #: no container
    CRASHED = "crashed"  #: its container ended, and nobody asked it to
    STARTING = "starting"  #: runs, does not answer yet
    STUCK = "stuck"  #: runs, and has not answered for too long
    SERVING = "serving"


class Rune:
    """One anvil's inference."""

    def __init__(
        self, settings: Settings, own: OrchestratorSettings, containers: Containers, inference: Inference
    ) -> None:
        self.settings = settings
        self.own = own
        self.containers = containers
        self.inference = inference
        self.name = f"rune-{settings.anvil}"
        self._answered_at = 0.0

    async def condition(self) -> Condition:
        info = await self.containers.inspect(self.name)
        if info is None:
            return Condition.DOWN
        if info.state is ContainerState.EXITED:
            return Condition.CRASHED
        if await self.inference.healthy():
            self._answered_at = time.time()
            return Condition.SERVING
        silent_s = time.time() - max(info.started_at, self._answered_at)
        return Condition.STUCK if silent_s > self.own.start_within_s else Condition.STARTING

    async def start(self, base: Base) -> None:
        await self.containers.start(rune_spec(self.name, self.settings, self.own, base))

    async def stop(self) -> None:
        """End it and prove that nothing of it is left; its container stays for the measurement after."""
        await self.containers.stop(self.name, self.own.stop_grace_s)

    async def forget(self) -> None:
        """A rune that was stopped on purpose leaves no container; one that is found ended has crashed."""
        if await self.containers.inspect(self.name):
            await self.containers.remove(self.name)

    async def memory_bytes(self) -> int:
        return await self.containers.memory_bytes(self.name)


def rune_spec(name: str, settings: Settings, own: OrchestratorSettings, base: Base) -> ContainerSpec:
    """vLLM with adapters loadable at run time. Its admin routes are unauthenticated: it binds to the house's own address."""
    cache = settings.home / "cache" / "rune"
    cache.mkdir(parents=True, exist_ok=True)
    flags = {
        "--model": base.path,
        "--served-model-name": base.name,
        "--host": settings.host,
        "--port": settings.port("rune"),
        "--dtype": "bfloat16",
        "--max-loras": own.max_loras,
        "--max-cpu-loras": own.max_loras * 4,
        "--max-lora-rank": own.max_lora_rank,
        "--max-model-len": own.max_model_len,
        "--max-num-seqs": 16,
    }
    return ContainerSpec(
        name=name,
        # The wheel's `vllm` script looks for a distribution of another name and fails; the module does not.
        command=(
            str(settings.jobs_python),
            "-m",
            "vllm.entrypoints.openai.api_server",
            *(str(word) for flag in flags.items() for word in flag),
            "--enable-lora",
            "--enforce-eager",
            "--disable-uvicorn-access-log",
        ),
        cwd=cache,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(cache),
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(own.kv_cache_gib),
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "LANG": "C.UTF-8",
        },
        labels={"role": ROLE, "anvil": settings.anvil},
    )
