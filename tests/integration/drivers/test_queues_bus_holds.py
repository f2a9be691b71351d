"""The holds on the workers of the bus: of several holders, of one that is killed, forged, late, and on a bus that was wiped."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from uuid import uuid4

import pytest
from nats.aio.client import Client

from shared.config.model import BusConfig
from shared.config.settings import Settings
from shared.contracts.intent import RitualCancel
from shared.contracts.queue import HOLDS_STREAM
from shared.contracts.roles import Role
from shared.drivers.queues import holds
from shared.drivers.queues.bus import BusQueue
from shared.drivers.queues.port import QueueError
from shared.drivers.queues.worker import Pausable
from shared.messaging.streams import declare
from tests.support.bus_queues import A, environment_of, no_holds, queue, until, workers
from tests.support.raw_bus import raw_connection

__all__ = ["no_holds", "queue", "workers"]  # the fixtures

B = "anvil1/3"

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
        killed = await asyncio.to_thread(subprocess.run, command, env=environment_of(settings), timeout=60, check=False)
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
