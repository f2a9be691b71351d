"""Workers that pause when they are asked on the bus: real NATS, workers in this process and in one that is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.config.model import BusConfig, SaqConfig
from shared.config.settings import Settings
from shared.contracts.queue import QueuePause, QueuePaused, QueueResume
from shared.contracts.roles import Role
from shared.drivers.queues import open_queue
from shared.drivers.queues.bus import BusQueue
from shared.drivers.queues.port import QueueError
from shared.drivers.queues.saq import SaqQueue
from shared.drivers.queues.worker import Pausable, pausable
from shared.messaging.client import connect
from tests.support.bus_queues import A, environment_of, no_holds, queue, until, workers

__all__ = ["no_holds", "queue", "workers"]  # the fixtures

WORKER = """
import asyncio, sys
from shared.config.settings import Settings
from shared.drivers.queues.worker import pausable
from shared.messaging.client import connect

async def main():
    client = await connect(Settings(nats=sys.argv[1]), "worker")
    async with pausable(client, sys.argv[2]) as gate:
        print("up", *gate.held, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


class Source:
    """A worker's jobs: each is noted when it begins and when it ends."""

    def __init__(self, gate: Pausable) -> None:
        self.gate = gate
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.may_end = asyncio.Event()

    async def work(self, number: int) -> None:
        async with self.gate.job():
            self.begun.append(number)
            await asyncio.sleep(0.02)
            self.ended.append(number)

    async def work_long(self) -> None:
        async with self.gate.job():
            self.begun.append(0)
            await self.may_end.wait()


async def test_of_200_jobs_half_brought_during_the_hold_each_runs_once_and_none_during_it(
    queue: BusQueue, workers: tuple[Pausable, Pausable]
) -> None:
    sources = [Source(gate) for gate in workers]
    slots = asyncio.Semaphore(8)

    async def job(number: int) -> None:
        async with slots:
            await sources[number % 2].work(number)

    async with asyncio.TaskGroup() as jobs:
        for number in range(100):
            jobs.create_task(job(number))
        await until(lambda: sum(len(source.ended) for source in sources) >= 20)
        await queue.hold(A, "training")
        assert await queue.drained() == ()
        assert await queue.active() == 0
        before = [len(source.begun) for source in sources]
        for number in range(100, 200):
            jobs.create_task(job(number))
        await asyncio.sleep(2.5)  # longer than the workers' own look
        during = [len(source.begun) for source in sources]
        await queue.release(A)
    ran = sorted(number for source in sources for number in source.ended)
    print(f"\nbus: 200 jobs, {sum(before)} before the hold, {sum(during) - sum(before)} during it, {len(ran)} ran")
    assert during == before
    assert 20 <= sum(before) < 200
    assert ran == list(range(200))


async def test_the_grace_ends_with_the_names_of_those_still_at_work(
    queue: BusQueue, workers: tuple[Pausable, Pausable]
) -> None:
    source = Source(workers[0])
    running = asyncio.create_task(source.work_long())
    await until(lambda: bool(source.begun))
    assert await queue.running() == ("worker scribe: 1 running",)
    await queue.hold(A)
    assert await queue.drained(1) == ("worker scribe: 1 running",)
    draining = asyncio.create_task(queue.drained())
    source.may_end.set()
    assert await draining == ()
    await running
    await queue.release(A)


async def test_a_dead_worker_is_named_until_it_comes_up_and_learns_of_the_hold(
    queue: BusQueue, workers: tuple[Pausable, Pausable], settings: Settings, client: Client
) -> None:
    three = BusQueue(BusConfig(driver="bus", workers=("scribe", "embedder", "late"), grace_s=20), client)
    await three.hold(A)
    assert await three.drained(2) == ("worker late: does not answer; start it, or take it out of soulforge.toml",)
    assert await three.active() == 1
    proving = asyncio.create_task(three.drained())
    late = await _spawn(settings, "late")
    try:
        assert late.stdout and await asyncio.to_thread(late.stdout.readline) == b"up anvil0/17\n"
        assert await proving == ()
        late.kill()
        late.wait()
        assert "late: does not answer" in (await three.drained(0))[0]
    finally:
        _end(late)
    await three.release(A)


async def _spawn(settings: Settings, name: str) -> subprocess.Popen[bytes]:
    return await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", WORKER, settings.nats_url, name],
        env=environment_of(settings),
        stdout=subprocess.PIPE,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


async def test_an_idle_worker_that_has_not_heard_of_the_hold_proves_nothing(settings: Settings, client: Client) -> None:
    queue = BusQueue(BusConfig(driver="bus", workers=("deaf",)), client)

    async def answer(message: Msg) -> None:
        await client.publish(message.reply, QueuePaused(worker="deaf").model_dump_json().encode())

    deaf = await client.subscribe("queue.ask", cb=answer)
    await queue.hold(A)
    assert await queue.active() == 0
    assert await queue.drained(0.5) == ("worker deaf: does not know of the hold anvil0/17",)
    await queue.release(A)
    await deaf.unsubscribe()


async def test_the_words_on_the_bus_are_the_contracts(
    queue: BusQueue, workers: tuple[Pausable, Pausable], client: Client
) -> None:
    heard = await client.subscribe("queue.>")
    await client.flush()
    source = Source(workers[1])
    running = asyncio.create_task(source.work_long())
    await until(lambda: bool(source.begun))
    await queue.hold(A, "ritual 7")
    await until(lambda: workers[1].held == (A,))
    source.may_end.set()
    await running
    await queue.release(A)
    words = [await heard.next_msg(5) for _ in range(3)]
    await heard.unsubscribe()
    pause = QueuePause.model_validate_json(words[0].data)
    assert (words[0].subject, pause.holder, pause.anvil, pause.reason) == ("queue.pause", A, "anvil0", "ritual 7")
    assert QueuePaused.model_validate_json(words[1].data) == QueuePaused(worker="embedder", holders=(A,), active=0)
    assert QueueResume.model_validate_json(words[2].data) == QueueResume(holder=A, anvil="anvil0")


async def test_strange_words_are_passed_over(
    queue: BusQueue, workers: tuple[Pausable, Pausable], client: Client
) -> None:
    async def babble(message: Msg) -> None:
        await client.publish(message.reply, b"what?")
        await client.publish(message.reply, b'{"worker": "stranger"}')

    strange = await client.subscribe("queue.ask", cb=babble)
    await client.publish("queue.pause", b"{}")
    await client.publish("queue.resume", b"now")
    assert await queue.active() == 0
    assert workers[0].held == ()
    await strange.unsubscribe()


async def test_without_a_bus_the_owner_is_told(settings: Settings) -> None:
    gone = await connect(settings, Role.ORCHESTRATOR)
    await gone.close()
    queue = open_queue(BusConfig(driver="bus", workers=("scribe",)), settings.database_url("worker"), gone)
    for call in (lambda: queue.hold(A), queue.held, queue.active, lambda: queue.release(A)):
        with pytest.raises(QueueError, match="is NATS up, with JetStream"):
            await call()
    with pytest.raises(QueueError, match="cannot read whether it is held"):
        async with pausable(gone, "scribe"):
            pass


def test_the_configuration_names_the_driver(settings: Settings, client: Client) -> None:
    saq = SaqConfig.model_validate({"driver": "saq", "names": ("gpu",), "database": "postgresql:///x?host=/elsewhere"})
    opened = open_queue(saq, settings.database_url("worker"), client)
    assert isinstance(opened, SaqQueue) and opened.url == "postgresql:///x?host=/elsewhere"
    assert isinstance(open_queue(BusConfig(driver="bus", workers=("scribe",)), "", client), BusQueue)
