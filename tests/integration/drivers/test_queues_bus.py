"""Workers that pause when they are asked on the bus: real NATS, workers in this process and in one that is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic
from uuid import uuid4

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.config.model import BusConfig, SaqConfig
from shared.config.settings import Settings
from shared.contracts.intent import RitualCancel
from shared.contracts.queue import HOLDS_STREAM, QueuePause, QueuePaused, QueueResume
from shared.contracts.roles import Role
from shared.drivers.queues import holds, open_queue
from shared.drivers.queues.bus import BusQueue
from shared.drivers.queues.port import QueueError
from shared.drivers.queues.saq import SaqQueue
from shared.drivers.queues.worker import Pausable, pausable
from shared.messaging.client import connect
from shared.messaging.streams import declare
from tests.support.raw_bus import raw_connection

DEADLINE_S = 30
A, B = "anvil0/17", "anvil1/3"

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

HOLDER = """
import asyncio, os, signal, sys
from shared.config.model import BusConfig
from shared.config.settings import Settings
from shared.contracts.roles import Role
from shared.drivers.queues import holds
from shared.drivers.queues.bus import BusQueue
from shared.messaging.client import connect

async def main():
    client = await connect(Settings(nats=sys.argv[1]), "orchestrator")
    queue = BusQueue(BusConfig(driver="bus", workers=("scribe",)), client)
    async def die(self, message):
        os.kill(os.getpid(), signal.SIGKILL)
    BusQueue._publish = die
    await getattr(queue, sys.argv[2])(sys.argv[3])

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
async def no_holds(client: Client) -> AsyncIterator[None]:
    yield
    await client.jetstream().purge_stream(HOLDS_STREAM)


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[BusQueue]:
    orchestrator = await connect(settings, Role.ORCHESTRATOR)
    yield BusQueue(BusConfig(driver="bus", workers=("scribe", "embedder"), grace_s=20), orchestrator)
    await orchestrator.close()


@pytest.fixture
async def workers(settings: Settings) -> AsyncIterator[tuple[Pausable, Pausable]]:
    """Two workers, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        gates = []
        for name in ("scribe", "embedder"):
            connection = await connect(settings, Role.WORKER)
            stack.push_async_callback(connection.close)
            gates.append(await stack.enter_async_context(pausable(connection, name)))
        yield gates[0], gates[1]


async def until(happens: Callable[[], bool]) -> None:
    deadline = monotonic() + DEADLINE_S
    while not happens():
        assert monotonic() < deadline
        await asyncio.sleep(0.02)


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
        env=_environment(settings),
        stdout=subprocess.PIPE,
    )


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, "SOULFORGE_HOME": str(settings.home)}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


async def test_two_holders_must_both_let_go_and_both_words_may_be_said_twice(
    queue: BusQueue, workers: tuple[Pausable, Pausable]
) -> None:
    assert await queue.held() == ()
    await queue.release(A)
    for holder in (A, B, A, B):
        await queue.hold(holder)
    assert await queue.held() == (A, B)
    assert await queue.drained() == ()
    await queue.release(A)
    await queue.release(A)
    assert await queue.held() == (B,)
    await until(lambda: workers[0].held == (B,))
    waiting = asyncio.create_task(workers[0].wait())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await queue.release(B)
    await waiting
    assert await queue.held() == ()
    with pytest.raises(QueueError, match="call hold first"):
        await queue.drained()


async def test_a_holder_killed_before_it_could_say_a_word_is_obeyed_all_the_same(
    queue: BusQueue, workers: tuple[Pausable, Pausable], settings: Settings
) -> None:
    for call, after in (("hold", (A,)), ("release", ())):
        command = [sys.executable, "-c", HOLDER, settings.nats_url, call, A]
        killed = await asyncio.to_thread(subprocess.run, command, env=_environment(settings), timeout=60, check=False)
        assert killed.returncode == -9
        await until(partial(_both_are_held_by, workers, after))
    await queue.hold(A)
    assert await queue.drained() == ()
    other = BusQueue(BusConfig(driver="bus", workers=("scribe", "embedder")), queue.client)
    assert await other.held() == (A,)
    await other.release(A)
    await until(lambda: workers[0].held == workers[1].held == ())


def _both_are_held_by(workers: tuple[Pausable, Pausable], holders: tuple[str, ...]) -> bool:
    return workers[0].held == workers[1].held == holders


async def test_what_a_publisher_has_the_server_store_neither_holds_a_worker_nor_lets_one_go(
    queue: BusQueue, workers: tuple[Pausable, Pausable], settings: Settings, client: Client
) -> None:
    async def store_acknowledgements() -> None:
        async with raw_connection(settings, settings.bus_key(Role.PUBLISHER)) as publisher:
            for holder in ("junk", A, B):
                publisher.publish(RitualCancel.subject, b"x", reply=holds.KEY + holder)
            await publisher.flush()
        for end in (RitualCancel.subject, f"{holds.KEY}{uuid4()}"):  # acknowledged once all before it is stored
            await client.jetstream().publish(end, timeout=30)

    async def read() -> None:
        assert all([await gate._read() for gate in workers])

    await store_acknowledgements()
    await read()
    assert await queue.held() == () and _both_are_held_by(workers, ())

    await queue.hold(A)
    assert await queue.drained() == ()
    await store_acknowledgements()
    await read()
    assert await queue.held() == (A,) and _both_are_held_by(workers, (A,))

    await queue.hold(A)
    await queue.release(A)
    assert await queue.held() == ()


async def test_a_look_that_began_before_the_pause_does_not_undo_it(
    queue: BusQueue, workers: tuple[Pausable, Pausable], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = workers[0]
    looked, may_answer = asyncio.Event(), asyncio.Event()

    async def stale(_: object) -> frozenset[str]:
        looked.set()
        await may_answer.wait()
        return frozenset()

    with monkeypatch.context() as patched:
        patched.setattr("shared.drivers.queues.worker.holds.get_holders", stale)
        look = asyncio.create_task(gate._read())
        await looked.wait()
    await queue.hold(A)
    await until(lambda: gate.held == (A,))
    may_answer.set()
    assert not await look
    assert gate.held == (A,)
    await queue.release(A)


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


async def test_a_wiped_bus_lets_no_worker_go_and_the_next_hold_stands_again(
    queue: BusQueue, workers: tuple[Pausable, Pausable], client: Client
) -> None:
    await queue.hold(A)
    assert await queue.drained() == ()
    await client.jetstream().delete_stream(HOLDS_STREAM)
    await asyncio.sleep(2.5)  # longer than the workers' own look
    assert workers[0].held == workers[1].held == (A,)
    with pytest.raises(QueueError, match="call hold first"):
        await queue.drained()
    with pytest.raises(QueueError):
        await queue.hold(A)
    await declare(client.jetstream(), ())  # as the services do when they start again
    await queue.hold(A)
    assert await queue.drained() == ()
    await client.jetstream().delete_stream(HOLDS_STREAM)
    await queue.release(A)
    await until(lambda: workers[0].held == workers[1].held == ())
    await declare(client.jetstream(), ())


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
