"""Senders of intents that follow the rule: the same id again, with growing pauses, until it is answered."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import ritual_id
from shared.contracts.roles import Role
from shared.messaging.client import connect

REPLY_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 4.0
WAITING = 5  #: as many unanswered or unended intents at a time
WITHOUT_KARMA = 0.2  #: share of intents for a persona that has none: they are refused
REPEATED = 0.3  #: share that is sent once more after the answer, as by a sender that missed it


@dataclass
class Sent:
    """An intent: how often it was sent, and its answers."""

    id: str
    persona: str
    tries: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        return bool(self.answers)

    @property
    def ritual(self) -> UUID:
        return ritual_id(self.id)

    @property
    def wrong(self) -> bool:
        """Whether an answer is not that its one ritual was opened."""
        return any(answer.get("ritual") != str(self.ritual) for answer in self.answers)


class Sender:
    """Keeps a few intents under way through the proxy; `ended` is how many of its rituals ended."""

    def __init__(self, settings: Settings, seed: int, pause_s: float) -> None:
        self.sent: list[Sent] = []
        self.ended = 0
        self._settings, self._seed, self._pause_s = settings, seed, pause_s
        self._draw = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = Client()

    async def run(self) -> None:
        """Send intents until cancelled."""
        self._client = await connect(
            self._settings, Role.PUBLISHER, max_reconnect_attempts=-1, reconnect_time_wait=0.5, ping_interval=5
        )
        while True:
            if len(self.sent) - self.ended < WAITING:
                persona = "coder" if self._draw.random() < WITHOUT_KARMA else "scribe"
                one = Sent(f"chaos-{self._seed}-{len(self.sent)}", persona)
                self.sent.append(one)
                task = asyncio.create_task(self._send(one, again=self._draw.random() < REPEATED))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(self._pause_s)

    async def finish(self, within_s: float) -> None:
        """Wait until every intent is answered."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        with suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await self._client.close()

    async def _send(self, one: Sent, again: bool) -> None:
        body = TrainingIntent(persona=one.persona, id=one.id, seed=len(self.sent)).model_dump_json().encode()
        pause_s = FIRST_PAUSE_S
        while len(one.answers) < 1 + again:
            one.tries += 1
            try:
                async with asyncio.timeout(REPLY_S + 2):
                    reply = await self._client.request(TrainingIntent.subject, body, timeout=REPLY_S)
                one.answers.append(json.loads(reply.data))
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
