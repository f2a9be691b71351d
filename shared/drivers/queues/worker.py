"""The worker's side of the bus driver, for workers of any program: `async with pausable(client, "embedder") as gate`.

    async with pausable(client, "embedder") as gate:
        async for item in source:
            async with gate.job():  # waits while the anvil is leased; counted as running until it ends
                await embed(item)

The client connects with the key of the role `worker`. In another language: subscribe to `queue.pause`, `queue.resume` and
`queue.ask`; read the keys of the JetStream bucket `queue_holds` (the subjects in the information about its stream) at the
start, after each of the first two, and every few seconds; start nothing while there is a key; answer every `queue.ask` with
`queue.paused`. docs/asyncapi/soulforge.json has the messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from pydantic import ValidationError

from shared.contracts.queue import QueueAsk, QueuePause, QueuePaused, QueueResume
from shared.drivers.queues import holds
from shared.drivers.queues.port import QueueError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

REREAD_S = 2.0
START_S = 30.0

log = logging.getLogger(__name__)


@asynccontextmanager
async def pausable(client: Client, name: str) -> AsyncIterator[Pausable]:
    """Open a gate for the jobs of worker `name`, which knows of existing holds from the start.

    Raises QueueError where the holds cannot be read within START_S. `client` stays the caller's.
    """
    gate = Pausable(client, name)
    try:
        await gate.start()
        yield gate
    finally:
        await gate.stop()


class Pausable:
    """Pauses jobs while there is a hold. When NATS is down it keeps its state: held, or unable to acknowledge."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self._jetstream = client.jetstream()
        self._holds: frozenset[str] = frozenset()
        self._active = 0
        self._changes = 0
        self._stopping = False
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._rereading: asyncio.Task[None] | None = None

    @property
    def held(self) -> tuple[str, ...]:
        """The holders for which this worker pauses; empty when it may work."""
        return tuple(sorted(self._holds))

    async def wait(self) -> None:
        """Wait until there is no hold. A job must begin before the next await, or use `job`."""
        while self._holds:
            await self._open.wait()

    @asynccontextmanager
    async def job(self) -> AsyncIterator[None]:
        """Wait until there is no hold, then count the block as a running job."""
        await self.wait()
        self._active += 1  # no await since the check: no hold can come between
        try:
            yield
        finally:
            self._active -= 1
            if self._holds and not self._active:
                with suppress(NatsError):
                    await self._publish(QueuePaused.subject)

    async def start(self) -> None:
        handlers = (
            (QueuePause.subject, self._pause),
            (QueueResume.subject, self._resume),
            (QueueAsk.subject, self._answer),
        )
        try:
            async with asyncio.timeout(START_S):
                for subject, handle in handlers:
                    self._subscriptions.append(await self.client.subscribe(subject, cb=handle))
                await self.client.flush()
                while not await self._read():
                    await asyncio.sleep(REREAD_S / 10)
        except (TimeoutError, NatsError) as error:
            raise QueueError(
                f"worker {self.name}: cannot read whether it is held: {error or type(error).__name__}: "
                "is NATS up, with JetStream?"
            ) from error
        self._rereading = asyncio.create_task(self._reread())

    async def stop(self) -> None:
        self._stopping = True
        if self._rereading:
            self._rereading.cancel()
            await asyncio.gather(self._rereading, return_exceptions=True)
        for subscription in self._subscriptions:
            with suppress(NatsError):
                await subscription.unsubscribe()
        self._subscriptions.clear()

    async def _reread(self) -> None:
        """Read the bucket again: messages are lossy, and a holder may die between storing and publishing."""
        while not self._stopping:  # asyncio.wait_for of Python 3.11, below the request, may swallow the cancellation
            with suppress(TimeoutError):
                async with asyncio.timeout(REREAD_S):
                    await self._changed.wait()
            self._changed.clear()
            if not await self._read():
                self._changed.set()
                await asyncio.sleep(REREAD_S / 10)

    async def _read(self) -> bool:
        """Take over the holds in the bucket; False when it could not be read, or a message arrived meanwhile."""
        before = self._changes
        try:
            found = await holds.get_holders(self._jetstream)
        except (NatsError, TimeoutError) as error:
            log.warning("worker %s cannot read its holds: %s", self.name, error or type(error).__name__)
            return False
        if before != self._changes:
            return False
        if found is not None:  # a bucket that is gone proves nothing: what was held before stays held
            self._hold(found)
        return True

    def _hold(self, holders: frozenset[str]) -> None:
        self._holds = holders
        if holders:
            self._open.clear()
        else:
            self._open.set()

    async def _pause(self, message: Msg) -> None:
        with suppress(ValidationError):
            self._change(self._holds | {QueuePause.model_validate_json(message.data).holder})

    async def _resume(self, message: Msg) -> None:
        with suppress(ValidationError):
            self._change(self._holds - {QueueResume.model_validate_json(message.data).holder})

    def _change(self, holders: frozenset[str]) -> None:
        self._changes += 1
        self._hold(holders)
        self._changed.set()

    async def _answer(self, message: Msg) -> None:
        if message.reply:
            with suppress(NatsError):
                await self._publish(message.reply)

    async def _publish(self, subject: str) -> None:
        state = QueuePaused(worker=self.name, holders=self.held, active=self._active)
        await self.client.publish(subject, state.model_dump_json().encode())
