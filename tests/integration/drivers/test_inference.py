"""The vLLM driver and live load, against a small server that speaks vLLM behind the real gate."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import psutil
import pytest

from shared.drivers.inference.gate.key import HEADER
from shared.drivers.inference.port import InferenceError, Means, PromptMessage
from shared.drivers.inference.vllm import Vllm
from tests.support.fakes.engines import BASE, KEY, READY_S, FakeEngine, fake_engine, free_port, until
from tests.support.load import End, live_load

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


async def test_a_closed_engine_is_healthy_refuses_the_public_and_answers_our_own_services(engine: FakeEngine) -> None:
    closed = await engine.vllm.close("training scribe", 60)

    assert closed.closed and closed.means is Means.GATE and "training scribe" in closed.detail
    assert await engine.vllm.healthy()
    with pytest.raises(InferenceError, match=r"503.*training scribe"):
        await engine.vllm.answer(BASE, ASKED, 4)
    assert await Vllm(engine.url, KEY, inside=True).answer(BASE, ASKED, 4)
    assert not (await engine.vllm.open()).closed
    assert await engine.vllm.answer(BASE, ASKED, 4)


async def test_activity_counts_what_was_admitted_refused_and_finished(engine: FakeEngine) -> None:
    await engine.vllm.answer(BASE, ASKED, 4)
    await engine.vllm.close("training scribe")
    with pytest.raises(InferenceError):
        await engine.vllm.answer(BASE, ASKED, 4)

    now = await engine.vllm.activity()

    assert (now.running, now.waiting, now.finished_total) == (0, 0, 1)
    assert (now.in_flight, now.admitted_total, now.refused_total) == (0, 1, 1)
    assert now.left == 0


async def test_with_grace_enough_a_drain_loses_no_request(engine: FakeEngine) -> None:
    async with live_load(engine.url, (BASE,), key=KEY, parallel=6, max_tokens=20) as load:
        await until(lambda: load.report.counts[End.FULL] >= 6)
        await engine.vllm.close("training scribe")
        left = await engine.vllm.drain(READY_S)
        assert left == 0
        await until(lambda: load.report.counts[End.REFUSED] >= 12)
        moment = monotonic()
        await engine.vllm.open()
        await until(lambda: load.report.since(moment).counts[End.FULL] >= 6)

    counts = load.report.counts
    assert (counts[End.ABORTED], counts[End.UNCLEAN], counts[End.UNREACHABLE]) == (0, 0, 0), load.report.unclean


async def test_without_grace_what_is_under_way_is_aborted_cleanly_and_counted(engine: FakeEngine) -> None:
    async with live_load(engine.url, (BASE,), key=KEY, parallel=6, max_tokens=2000) as load:
        await until(lambda: load.under_way == 6)
        await asyncio.sleep(0.3)
        await engine.vllm.close("training scribe")
        assert await engine.vllm.drain(0.0) == 6
        aborted = await engine.vllm.abort()
        assert await engine.vllm.drain(READY_S) == 0
        assert await engine.vllm.abort() == 0

    assert aborted == 6 == load.report.counts[End.ABORTED]
    assert not load.report.unclean
    assert load.report.counts[End.FULL] == 0


async def test_a_drain_over_a_request_that_takes_longer_says_what_is_left(engine: FakeEngine) -> None:
    async with live_load(engine.url, (BASE,), key=KEY, parallel=1, max_tokens=2000) as load:
        await until(lambda: load.under_way == 1)
        await asyncio.sleep(0.3)
        await engine.vllm.close("training scribe")

        assert await engine.vllm.drain(0.5) == 1
        await engine.vllm.abort()


async def test_an_engine_that_hangs_still_gives_its_clients_a_clean_end(tmp_path: Path) -> None:
    async with fake_engine(hang=True) as engine, live_load(engine.url, (BASE,), key=KEY, parallel=4) as load:
        await until(lambda: load.under_way == 4)
        await asyncio.sleep(0.3)
        await engine.vllm.close("training scribe")

        assert await engine.vllm.abort() == 4
        assert await engine.vllm.drain(0.3) == 4
        await until(lambda: load.report.counts[End.ABORTED] == 4)

    assert not load.report.unclean


async def test_the_end_of_a_closed_and_drained_engine_is_clean_for_its_clients(engine: FakeEngine) -> None:
    async with live_load(engine.url, (BASE,), key=KEY, parallel=8, max_tokens=10) as load:
        await until(lambda: load.report.counts[End.FULL] >= 8)
        await engine.vllm.close("training scribe")
        assert await engine.vllm.drain(READY_S) == 0
        assert await engine.vllm.leave()
        engine.process.send_signal(signal.SIGTERM)
        await until(lambda: engine.process.poll() is not None)
        await until(lambda: load.report.counts[End.UNREACHABLE] >= 8)

    assert load.report.counts[End.ABORTED] == 0
    assert not load.report.unclean


async def test_an_open_engine_does_not_leave(engine: FakeEngine) -> None:
    assert not await engine.vllm.leave()
    assert await engine.vllm.healthy()


async def test_live_load_tells_an_engine_that_was_killed_in_the_middle(engine: FakeEngine) -> None:
    async with live_load(engine.url, (BASE,), key=KEY, parallel=4, max_tokens=2000) as load:
        await until(lambda: load.under_way == 4)
        await asyncio.sleep(0.3)
        engine.end()
        await until(lambda: len(load.report.unclean) == 4)

    assert {one.streamed for one in load.report.unclean} == {True, False}


async def test_an_engine_without_a_gate_says_that_it_cannot_be_closed() -> None:
    async with fake_engine(no_gate=True) as engine:
        closed = await engine.vllm.close("training scribe")
        now = await engine.vllm.activity()

        assert not closed.closed and closed.means is Means.NONE and "--middleware" in closed.detail
        assert (now.in_flight, now.admitted_total) == (None, None)
        assert await engine.vllm.drain(READY_S) == 0
        assert await engine.vllm.abort() == 0
        assert not await engine.vllm.leave()
        assert not (await engine.vllm.open()).closed


async def test_work_that_the_gate_does_not_see_holds_the_drain() -> None:
    async with fake_engine(stuck_running=2) as engine:
        assert await engine.vllm.drain(0.5) == 2


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


async def test_an_engine_that_does_not_answer_is_named() -> None:
    vllm = Vllm(f"http://127.0.0.1:{free_port()}")

    assert not await vllm.healthy()
    with pytest.raises(InferenceError, match=r"POST /soulforge/gate/close on http://127\.0\.0\.1"):
        await vllm.close("training scribe")


async def test_who_listens_on_the_port_of_an_engine_that_is_down_does_not_get_its_key() -> None:
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    port = free_port()
    async with await asyncio.start_server(listen, "127.0.0.1", port):
        assert not await Vllm(f"http://127.0.0.1:{port}", KEY, inside=True).healthy()

    assert HEADER.encode() in received[0] and KEY.encode() not in received[0]
