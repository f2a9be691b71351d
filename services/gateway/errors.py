"""Refusals of the gateway, in the form that OpenAI's clients parse."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from shared.asgi.replies import error, kind_of, reply, swallow

if TYPE_CHECKING:
    from starlette.requests import Request

    from shared.asgi.replies import Receive, Scope, Send

RETRY_AFTER_S = 2.0
SWALLOW_S = 1.0


class Refusal(Exception):
    """A request that is answered with an error. With `retry_after_s` the same request may succeed later.

    `unread`: the client may still be sending, so that the connection cannot be used again. `param`: the field of the
    request that is refused.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after_s: float | None = None,
        unread: bool = False,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s
        self.unread, self.param = unread, param

    @property
    def kind(self) -> str:
        return kind_of(self.status)

    def body(self) -> dict[str, Any]:
        return error(str(self), self.code, self.kind, self.param)

    async def send(self, receive: Receive, send: Send) -> None:
        """Answer with it."""
        if self.unread:  # a connection that is closed with unread bytes is reset, and the answer is lost with it
            with suppress(TimeoutError):
                await asyncio.wait_for(swallow(receive), SWALLOW_S)
        await reply(send, self.status, self.body(), self.retry_after_s, close=self.unread)


class Refused(Response):
    """A refusal as the response of a route."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(status_code=refusal.status)
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._refusal.send(receive, send)


async def answer_refusal(request: Request, wrong: Exception) -> Response:
    """Handle the Refusal that a route raises."""
    assert isinstance(wrong, Refusal)
    return Refused(wrong)
