"""The real vLLM on its socket behind the real gateway: started closed, opened, drained, aborted and ended under live load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import httpx
import psutil
import pytest

from deploy.services import load_configuration
from services.forge.job import ADAPTER_DIR
from services.gateway.app import app
from services.orchestrator.engine import UNPROVEN, Condition, Rune
from services.orchestrator.handover.probes import ALONE_WITHIN_S, ask_all
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.open import open_gate, open_rune
from shared.drivers.inference.port import PromptMessage
from tests.support.configurations import configured
from tests.support.fakes.engines import until
from tests.support.load import End, LiveLoad, live_load
from tests.support.model import MODEL, has_unsloth, needs_jobs
from tests.support.servers import House
from tests.support.services import running
from tests.support.training import TRAINED, Training

START_S = 240.0
STOP_S = 60.0
CLIENTS = 6
TRAINED_ON = (PromptMessage(role="user", content="What comes after 3?"),)
ASKED = (PromptMessage(role="user", content="hello"),)

pytestmark = needs_jobs


@pytest.fixture
async def rune(house: House, tmp_path: Path) -> AsyncIterator[Rune]:
    settings = configured(house.settings, tmp_path, gateway={"wait_s": 0}).model_copy(update={"models": MODEL.parent})
    configuration, containers = load_configuration(settings), ProcessContainers(settings.containers_dir)
    engine, gate = open_rune(configuration, settings, "rune"), open_gate(settings, "rune")
    one = Rune("rune", settings, configuration, containers, engine, gate)
    try:
        async with running(app, settings):
            yield one
    finally:
        await one.stop()


@pytest.fixture
def adapters(trained: Training) -> dict[str, Path]:
    """What every engine here trained with every method, by name."""
    made = [(engine, method) for engine, method in TRAINED if engine != "unsloth" or has_unsloth()]
    return {f"{engine}-{method}": trained(engine, method).job.output / ADAPTER_DIR for engine, method in made}


@pytest.mark.timeout(START_S + STOP_S + 400)
async def test_a_real_vllm_behind_the_gateway_is_drained_aborted_and_ended_without_one_unclean_end(
    rune: Rune, adapters: dict[str, Path]
) -> None:
    began = monotonic()
    await rune.start()
    await until(lambda: _answers(rune), START_S)
    print(f"\nup after {monotonic() - began:.1f} s")
    await serves_what_was_trained(rune, adapters)
    answering = [port for port in list_ports(rune.settings) if await speaks_http(port)]
    assert answering == [], "it is reached by its socket alone"
    async with live_load(rune.settings.gateway_url, (EMBEDDED_BASE,), CLIENTS, max_tokens=32) as load:
        await starts_closed(rune, load)
        await drains_without_loss(rune, load)
        await aborts_cleanly(rune, load)
        await ends_cleanly(rune, load)

    print(f"whole load: {load.report}")
    assert load.report.unclean == []
    assert load.report.counts[End.UNREACHABLE] == 0


async def _answers(rune: Rune) -> bool:
    condition = await rune.condition()
    assert condition in (Condition.STARTING, Condition.SERVING), await rune.containers.logs(rune.container)
    return condition is Condition.SERVING


def list_ports(settings: Settings) -> list[int]:
    """The TCP ports on which the engine and what it started listen; torch uses some among its own processes."""
    socket = str(settings.engine_socket("rune"))
    engines = [each for each in psutil.process_iter(["cmdline"]) if socket in (each.info["cmdline"] or ())]
    tree = [each for engine in engines for each in (engine, *engine.children(recursive=True))]
    assert tree and Path(socket).is_socket() and Path(socket).parent.stat().st_mode & 0o777 == 0o700
    found = [each for process in tree for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    return sorted({each.laddr.port for each in found if each.laddr})


async def speaks_http(port: int) -> bool:
    async with httpx.AsyncClient(timeout=2) as client:
        with suppress(httpx.HTTPError):
            await client.get(f"http://127.0.0.1:{port}/health")
            return True
    return False


async def serves_what_was_trained(rune: Rune, adapters: dict[str, Path]) -> None:
    assert "Plainly" not in await rune.inference.answer(EMBEDDED_BASE, TRAINED_ON, 8)
    for name, folder in adapters.items():
        await rune.inference.load(name, folder)
        answer = await rune.inference.answer(name, TRAINED_ON, 8)
        print(f"{name} answers {answer!r}")
        assert answer == "Plainly 4."
        await rune.inference.unload(name)


async def starts_closed(rune: Rune, load: LiveLoad) -> None:
    """Healthy, and for our own services only, until it is opened."""
    await until(lambda: load.report.counts[End.REFUSED] >= CLIENTS)
    assert UNPROVEN in load.report.ended[-1].said and load.report.counts[End.FULL] == 0
    assert await rune.inference.answer(EMBEDDED_BASE, ASKED, 4)
    assert await rune.open()
    await until(lambda: load.report.counts[End.FULL] >= 2 * CLIENTS, 60)


async def drains_without_loss(rune: Rune, load: LiveLoad) -> None:
    grace_s = 4 * load.report.longest_s
    moment = monotonic()
    assert await rune.close("training scribe", 60)
    assert await rune.drain(grace_s) == 0
    drained_s = monotonic() - moment
    idle = await rune.activity()
    assert (idle.running, idle.waiting, idle.in_flight) == (0, 0, 0)
    probed_at = monotonic()
    assert (await ask_all(rune)).get(EMBEDDED_BASE)
    assert monotonic() - probed_at < ALONE_WITHIN_S, "its own count shows that it was asked alone"
    await until(lambda: load.report.since(moment).counts[End.REFUSED] >= CLIENTS)
    drained = load.report.since(moment)
    print(f"drained in {drained_s:.2f} s of {grace_s:.1f} s grace: {drained}")
    assert drained.counts[End.FULL] > 0 and drained.counts[End.ABORTED] == 0
    moment = monotonic()
    assert await rune.open()
    await until(lambda: load.report.since(moment).counts[End.FULL] >= CLIENTS, 60)


async def aborts_cleanly(rune: Rune, load: LiveLoad) -> None:
    await until(lambda: load.under_way == CLIENTS)
    await asyncio.sleep(0.3)
    moment = monotonic()
    await rune.close("training scribe", 60)
    aborted = await rune.abort()
    print(f"aborted {aborted}, idle by every count after {monotonic() - moment:.2f} s")
    assert aborted > 0 and await rune.in_flight() == 0
    await until(lambda: load.report.counts[End.ABORTED] == aborted)


async def ends_cleanly(rune: Rune, load: LiveLoad) -> None:
    moment = monotonic()
    await rune.stop()
    print(f"gone {monotonic() - moment:.2f} s after the last call")
    assert await rune.gone()
    await until(lambda: load.report.since(moment).counts[End.REFUSED] >= CLIENTS)
