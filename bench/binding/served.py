"""The real vLLM, and the registry's own proof of each adapter in the name of every one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.orchestrator.engine_command import rune_spec
from services.registry.binding import Binding, prove
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.contracts.probe import Probe
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.vllm import Vllm

RUNE = "rune"
START_S, STOP_S = 300.0, 20.0


@asynccontextmanager
async def engine(home: Path, models: Path) -> AsyncIterator[Vllm]:
    """The vLLM of the embedded configuration, as the orchestrator starts it."""
    settings, configuration = Settings(home=home, models=models), embedded()
    containers, spec = ProcessContainers(settings.containers_dir), await rune_spec(settings, configuration, RUNE)
    vllm = Vllm(configuration.rune_url(settings, RUNE))
    await containers.start(spec)
    try:
        deadline = time.monotonic() + START_S
        while not await vllm.healthy():
            if time.monotonic() > deadline:
                raise SystemExit(f"vLLM does not answer:\n{await containers.logs(spec.name)}")
            await asyncio.sleep(1)
        yield vllm
    finally:
        await containers.stop(spec.name, STOP_S)
        await containers.remove(spec.name)


async def prove_all(vllm: Vllm, name: str, probes: Sequence[tuple[Probe, ...]]) -> list[Binding]:
    """The proof of the model `name` by the probes of every adapter: its own, and those of the others; all at once."""
    return list(await asyncio.gather(*(prove(vllm, name, each) for each in probes)))
