"""The gate inside the real vLLM: close, drain, refuse, open, abort, leave and end, under live load."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from shared.config.settings import PROJECT
from shared.drivers.inference.port import InferenceError, Means, PromptMessage
from shared.drivers.inference.vllm import Vllm
from tests.support.fakes.engines import KEY, free_port, until
from tests.support.load import End, LiveLoad, live_load
from tests.support.model import JOBS_PYTHON, MODEL, needs_jobs

NAME = "smollm2-135m-instruct"
START_S = 240.0
STOP_S = 60.0
CLIENTS = 6

pytestmark = needs_jobs


def command(port: int) -> tuple[str, ...]:
    flags = {
        "--model": MODEL,
        "--served-model-name": NAME,
        "--host": "127.0.0.1",
        "--port": port,
        "--dtype": "bfloat16",
        "--max-loras": 4,
        "--max-cpu-loras": 16,
        "--max-lora-rank": 16,
        "--max-model-len": 2048,
        "--max-num-seqs": 16,
        "--middleware": "shared.drivers.inference.gate.asgi.Gate",
    }
    words = (str(word) for flag in flags.items() for word in flag)
    module = (str(JOBS_PYTHON), "-m", "vllm.entrypoints.openai.api_server")
    return (*module, *words, "--enable-lora", "--enforce-eager", "--disable-uvicorn-access-log")


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "VLLM_CACHE_ROOT": str(home / "vllm"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PROJECT),
        "SOULFORGE_GATE": "closed",
        "SOULFORGE_ENGINE_KEY": KEY,
    }


@asynccontextmanager
async def vllm(home: Path, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    log = home / "vllm.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - a spawn is over at once
            command(port), cwd=home, env=environment(home), stdout=file, stderr=file, start_new_session=True
        )
    try:
        engine = Vllm(f"http://127.0.0.1:{port}", KEY)
        await until(lambda: process.poll() is not None or engine.healthy(), START_S)
        assert process.poll() is None, log.read_text()[-2000:]
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(START_S + STOP_S + 120)
async def test_a_real_vllm_is_closed_drained_opened_aborted_and_ended_without_one_unclean_end(tmp_path: Path) -> None:
    port, began = free_port(), monotonic()
    async with vllm(tmp_path, port) as process:
        print(f"\nup after {monotonic() - began:.1f} s")
        engine = Vllm(f"http://127.0.0.1:{port}", KEY)
        await starts_closed(engine)
        async with live_load(engine.url, (NAME,), CLIENTS, max_tokens=32, key=KEY) as load:
            await until(lambda: load.report.counts[End.FULL] >= 2 * CLIENTS, 60)
            await drains_without_loss(engine, load)
            await aborts_cleanly(engine, load)
            await ends_cleanly(engine, load, process)

    print(f"whole load: {load.report}")
    assert load.report.unclean == []


async def starts_closed(engine: Vllm) -> None:
    """Healthy, and for our own services only, until it is opened."""
    asked = (PromptMessage(role="user", content="hello"),)
    with pytest.raises(InferenceError, match=r"503.*not yet proven"):
        await engine.answer(NAME, asked, 4)
    assert await Vllm(engine.url, KEY, inside=True).answer(NAME, asked, 4)
    assert (await engine.open()).means is Means.GATE


async def drains_without_loss(engine: Vllm, load: LiveLoad) -> None:
    grace_s = 4 * load.report.longest_s
    moment = monotonic()
    assert (await engine.close("training scribe", 60)).closed
    assert await engine.drain(grace_s) == 0
    drained_s = monotonic() - moment
    idle = await engine.activity()
    assert (idle.running, idle.waiting, idle.in_flight) == (0, 0, 0)
    await until(lambda: load.report.since(moment).counts[End.REFUSED] >= CLIENTS)
    drained = load.report.since(moment)
    print(f"drained in {drained_s:.2f} s of {grace_s:.1f} s grace: {drained}")
    assert drained.counts[End.FULL] > 0 and drained.counts[End.ABORTED] == 0
    moment = monotonic()
    await engine.open()
    await until(lambda: load.report.since(moment).counts[End.FULL] >= CLIENTS, 60)


async def aborts_cleanly(engine: Vllm, load: LiveLoad) -> None:
    await until(lambda: load.under_way == CLIENTS)
    await asyncio.sleep(0.3)
    moment = monotonic()
    await engine.close("training scribe", 60)
    aborted = await engine.abort()
    aborted_s = monotonic() - moment
    assert await engine.drain(10.0) == 0
    print(f"aborted {aborted} in {aborted_s:.3f} s, idle by its own metrics after {monotonic() - moment:.2f} s")
    assert aborted > 0
    await until(lambda: load.report.counts[End.ABORTED] == aborted)


async def ends_cleanly(engine: Vllm, load: LiveLoad, process: subprocess.Popen[bytes]) -> None:
    moment = monotonic()
    assert await engine.leave()
    left_s = monotonic() - moment
    process.terminate()
    await until(lambda: process.poll() is not None, STOP_S)
    print(f"left in {left_s:.2f} s, gone {monotonic() - moment:.2f} s after the last call")
    await until(lambda: load.report.since(moment).counts[End.UNREACHABLE] >= CLIENTS)
