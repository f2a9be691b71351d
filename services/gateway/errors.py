"""Refusals of the gateway, in the form that OpenAI's clients parse."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.asgi.replies import error, reply, swallow

if TYPE_CHECKING:
    from shared.asgi.replies import Receive, Send

RETRY_AFTER_S = 2.0
SWALLOW_S = 1.0


class Refusal(Exception):
    """A request that is answered with an error. With `retry_after_s` the same request may succeed later.

    `unread`: the client may still be sending, so that the connection cannot be used again.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after_s: float | None = None, unread: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s, self.unread = status, code, retry_after_s, unread

    @property
    def kind(self) -> str:
        return "service_unavailable" if self.status >= 500 else "invalid_request_error"

    async def send(self, receive: Receive, send: Send) -> None:
        """Answer with it."""
        if self.unread:  # a connection that is closed with unread bytes is reset, and the answer is lost with it
            with suppress(TimeoutError):
                await asyncio.wait_for(swallow(receive), SWALLOW_S)
        await reply(send, self.status, error(str(self), self.code, self.kind), self.retry_after_s, close=self.unread)
