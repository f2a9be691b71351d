"""Queues of workers that pause by themselves: asked over NATS, proven idle by their answers. Their side is worker.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from pydantic import ValidationError

from shared.config.model import BusConfig
from shared.contracts.queue import QueueAsk, QueuePause, QueuePaused, QueueResume
from shared.drivers.queues import holds
from shared.drivers.queues.draining import drained
from shared.drivers.queues.port import QueueError, anvil_of

if TYPE_CHECKING:
    from nats.aio.client import Client

    from shared.contracts.message import Message

ANSWER_S = 1.0
CALL_S = 10


class BusQueue:
    """The workers named in the configuration. One that does not answer counts as running.

    Each name must belong to one process: of two answers under one name, the first counts.
    """

    def __init__(self, config: BusConfig, client: Client) -> None:
        self.workers = tuple(sorted(set(config.workers)))
        self.grace_s = config.grace_s
        self.client = client
        self.jetstream = client.jetstream()

    async def hold(self, holder: str, reason: str = "") -> None:
        """Store the hold and notify the workers. They receive it a moment later: `drained` is the proof."""
        deadline = datetime.now(UTC) + timedelta(seconds=self.grace_s)
        pause = QueuePause(holder=holder, anvil=anvil_of(holder), reason=reason, deadline=deadline)
        async with self._bus():
            # Stored before it is published: a worker that receives it reads the bucket.
            await holds.put(self.jetstream, pause)
            await self._publish(pause)

    async def active(self) -> int:
        async with self._bus():
            answers = await self._ask()
        return sum(answers[name].active if name in answers else 1 for name in self.workers)

    async def waiting(self) -> int:
        return 0

    async def running(self) -> tuple[str, ...]:
        async with self._bus():
            answers = await self._ask()
        busy = ((name, answers.get(name)) for name in self.workers)
        return tuple(reason for name, answer in busy if (reason := _running(name, answer)))

    async def drained(self, grace_s: float | None = None) -> tuple[str, ...]:
        if not await self.held():
            raise QueueError(f"workers {', '.join(self.workers)} are not held, so idle proves nothing: call hold first")
        return await drained(self._unproven, self.grace_s if grace_s is None else grace_s)

    async def release(self, holder: str) -> None:
        resume = QueueResume(holder=holder, anvil=anvil_of(holder))
        async with self._bus():
            await holds.remove(self.jetstream, holder)
            await self._publish(resume)

    async def held(self) -> tuple[str, ...]:
        async with self._bus():
            return tuple(sorted(await holds.get_holders(self.jetstream) or ()))

    async def _unproven(self) -> tuple[str, ...]:
        """List why the workers are not proven idle under the present holds; empty when they are."""
        async with self._bus():
            current = await holds.get_holders(self.jetstream) or frozenset()
            answers = await self._ask()
        found = ((name, answers.get(name)) for name in self.workers)
        return tuple(
            reason for name, answer in found if (reason := _running(name, answer) or _unaware(name, answer, current))
        )

    async def _ask(self) -> dict[str, QueuePaused]:
        """Request every worker's answer, by name; waits ANSWER_S for those that do not answer."""
        inbox = self.client.new_inbox()
        answers: dict[str, QueuePaused] = {}
        subscription = await self.client.subscribe(inbox)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.client.publish(QueueAsk.subject, QueueAsk().model_dump_json().encode(), reply=inbox)
                while not answers.keys() >= set(self.workers):
                    message = await subscription.next_msg(timeout=ANSWER_S)
                    if (answer := _answer(message.data)) and answer.worker not in answers:
                        answers[answer.worker] = answer
        except TimeoutError:
            pass  # workers that did not answer are missing in `answers`
        finally:
            await subscription.unsubscribe()
        return answers

    async def _publish(self, message: Message) -> None:
        await self.client.publish(message.subject, message.model_dump_json().encode())
        await self.client.flush(CALL_S)

    @asynccontextmanager
    async def _bus(self) -> AsyncIterator[None]:
        """Set the deadline of one call and turn errors of NATS into QueueError."""
        try:
            async with asyncio.timeout(CALL_S):
                yield
        except (NatsError, OSError, TimeoutError) as error:
            raise QueueError(
                f"workers {', '.join(self.workers)}: {error or type(error).__name__}: "
                "is NATS up, with JetStream? See `soulforge status`"
            ) from error


def _answer(data: bytes) -> QueuePaused | None:
    try:
        return QueuePaused.model_validate_json(data)
    except ValidationError:
        return None  # a foreign message, or the server's that there are no responders


def _running(name: str, answer: QueuePaused | None) -> str | None:
    if answer is None:
        return f"worker {name}: does not answer; start it, or take it out of soulforge.toml"
    if answer.active:
        return f"worker {name}: {answer.active} running"
    return None


def _unaware(name: str, answer: QueuePaused | None, current: frozenset[str]) -> str | None:
    """Why an idle worker may still start a job: it does not know of every hold."""
    if missing := sorted(current - set(answer.holders if answer else ())):
        return f"worker {name}: does not know of the hold {', '.join(missing)}"
    return None if current else f"worker {name}: is not held any more"
