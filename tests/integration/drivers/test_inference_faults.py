"""The faults of the fake engine do what they say: what is built on them tests something."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from shared.drivers.inference.port import InferenceError, PromptMessage
from shared.drivers.inference.vllm import Vllm
from tests.support.fakes.engines import BASE, fake_engine, until

ASKED = (PromptMessage(role="user", content="who are you?"),)


async def test_an_engine_that_ignores_sigterm_answers_on() -> None:
    async with fake_engine(ignore_sigterm=True) as engine:
        engine.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)

        assert engine.process.poll() is None and await engine.vllm.healthy()


async def test_an_engine_that_exits_by_itself_comes_back_by_itself() -> None:
    async with fake_engine(exit_after_s=1.0, respawn=True) as engine:
        first = {child.pid for child in engine.children()}
        await until(lambda: first.isdisjoint(child.pid for child in engine.children()) and engine.children())
        await until(engine.vllm.healthy)

        assert engine.process.poll() is None


@pytest.mark.parametrize("detached", [False, True])
async def test_a_child_survives_its_engine_and_holds_its_memory(detached: bool) -> None:
    async with fake_engine(child_mib=60, child_detached=detached) as engine:
        (child,) = engine.children()
        await until(lambda: child.memory_info().rss > 60 * 2**20)
        engine.process.send_signal(signal.SIGTERM)
        await until(lambda: engine.process.poll() is not None)
        child.terminate()
        try:
            await asyncio.sleep(0.3)
            assert child.is_running() and child.status() != psutil.STATUS_ZOMBIE
            assert (os.getpgid(child.pid) == child.pid) is detached
        finally:
            child.kill()


async def test_an_engine_may_never_become_healthy() -> None:
    async with fake_engine(wait=False, never_healthy=True) as engine:
        await until(lambda: _lists_models(engine.vllm))

        assert not await engine.vllm.healthy()


async def _lists_models(vllm: Vllm) -> bool:
    with suppress(InferenceError):
        return bool(await vllm.models())
    return False


async def test_an_engine_may_be_healthy_and_fail_every_answer() -> None:
    async with fake_engine(answers_500=True) as engine:
        with pytest.raises(InferenceError, match="500"):
            await engine.vllm.answer(BASE, ASKED, 4)


async def test_an_engine_may_answer_otherwise_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"salt_after_restart": True}))
    answers = []
    for _ in range(3):
        async with fake_engine(file=file) as engine:
            answers.append(await engine.vllm.answer(BASE, ASKED, 8))

    assert answers[0] != answers[1] == answers[2]


async def test_faults_may_come_and_go_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    async with fake_engine(file=file) as engine:
        file.write_text(json.dumps({"answers_500": True}))
        with pytest.raises(InferenceError, match="500"):
            await engine.vllm.answer(BASE, ASKED, 4)
        file.unlink()

        assert await engine.vllm.answer(BASE, ASKED, 4)


async def test_memory_may_be_kept_through_sleep() -> None:
    async with fake_engine(memory_mib=80, keep_memory=True) as engine:
        await engine.vllm.sleep(1)

        assert psutil.Process(engine.process.pid).memory_info().rss > 80 * 2**20
