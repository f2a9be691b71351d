"""The vLLM driver, against a small server that speaks vLLM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from shared.drivers.inference.port import Activity, InferenceError, PromptMessage
from shared.drivers.inference.vllm import Vllm
from tests.support.fakes.engines import BASE, FakeEngine, fake_engine

ASKED = (PromptMessage(role="user", content="who are you?"),)


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with fake_engine() as running:
        yield running


async def test_an_engine_answers_the_same_to_the_same_and_each_model_otherwise(
    engine: FakeEngine, tmp_path: Path
) -> None:
    await engine.vllm.load("scribe", tmp_path)

    answers = [await engine.vllm.answer(model, ASKED, 8) for model in (BASE, "scribe", BASE)]

    assert answers[0] == answers[2] != answers[1]


async def test_an_adapter_may_be_loaded_twice_and_is_listed_once(engine: FakeEngine, tmp_path: Path) -> None:
    await engine.vllm.load("scribe", tmp_path)
    await engine.vllm.load("scribe", tmp_path)

    assert await engine.vllm.models() == {BASE, "scribe"}


async def test_sleep_frees_memory_and_waking_takes_it_again() -> None:
    async with fake_engine(memory_mib=120) as engine:
        process = psutil.Process(engine.process.pid)
        awake = process.memory_info().rss
        await engine.vllm.sleep(1)
        asleep = process.memory_info().rss
        await engine.vllm.wake(2)

        assert asleep < awake - 100 * 2**20
        assert process.memory_info().rss > asleep + 100 * 2**20
        assert await engine.vllm.answer(BASE, ASKED, 4)


async def test_activity_counts_what_was_finished(engine: FakeEngine) -> None:
    await engine.vllm.answer(BASE, ASKED, 4)

    assert await engine.vllm.activity() == Activity(running=0, waiting=0, finished_total=1)


async def test_an_engine_that_does_not_answer_is_named(tmp_path: Path) -> None:
    vllm = Vllm(f"unix://{tmp_path}/engine.sock")

    assert not await vllm.healthy()
    with pytest.raises(InferenceError, match=rf"GET /v1/models on unix://{tmp_path}/engine\.sock"):
        await vllm.models()


async def test_an_engine_starts_over_the_socket_that_a_killed_one_left(tmp_path: Path) -> None:
    socket = tmp_path / "engine.sock"
    async with fake_engine(socket=socket):
        pass
    assert socket.is_socket()

    async with fake_engine(socket=socket) as engine:
        assert await engine.vllm.models() == {BASE}
