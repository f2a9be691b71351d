"""Answer intents that were sent as requests.

The stream of intents does not acknowledge, so that the harvester can answer more than "stored": the id of the ritual, or
what is wrong with the intent. A plain subscription notes the requests; the durable consumer does the work and
answers here. JetStream publishers read the same answer as their acknowledgement.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

KEEP_S = 30.0
POLL_S = 0.05
T = TypeVar("T")


class RequestReplies:
    """Matches requests and answers by the bytes of the message, whichever comes first.

    A request is sent again with the same bytes while it is not answered: of several, the latest is the one that waits.
    """

    def __init__(self, client: Client, subject: str) -> None:
        self.client, self.subject = client, subject
        self._subscription: Subscription | None = None
        self._waiting: deque[tuple[float, bytes, str]] = deque()
        self._answers: deque[tuple[float, bytes, bytes]] = deque()

    async def start(self) -> None:
        """Note requests from now on."""
        self._subscription = await self.client.subscribe(self.subject, cb=self.note)

    async def stop(self) -> None:
        if self._subscription:
            await self._subscription.unsubscribe()

    async def note(self, message: Msg) -> None:
        """Answer a request whose outcome is known, else keep its reply subject."""
        if not message.reply:
            return
        key = _key(message.data)
        if answer := _take(self._answers, key):
            await self.client.publish(message.reply, answer)
        else:
            self._waiting.append((monotonic() + KEEP_S, key, message.reply))

    async def answer(self, body: bytes, answer: dict[str, object], patience_s: float = 0.0) -> bool:
        """Answer the request with this body, waiting up to `patience_s` for it. False when there is none.

        A request that is noted later still gets the answer.
        """
        key, text = _key(body), json.dumps(answer).encode()
        deadline = monotonic() + patience_s
        while not (reply := _take(self._waiting, key)):
            if monotonic() >= deadline:
                self._answers.append((monotonic() + KEEP_S, key, text))
                return False
            await asyncio.sleep(POLL_S)
        await self.client.publish(reply, text)
        return True


def _take(entries: deque[tuple[float, bytes, T]], key: bytes) -> T | None:
    """Remove and return the latest entry of this key that is not older than KEEP_S."""
    now = monotonic()
    while entries and entries[0][0] < now:
        entries.popleft()
    for entry in reversed(entries):
        if entry[1] == key:
            entries.remove(entry)
            return entry[2]
    return None


def _key(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
