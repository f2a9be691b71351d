"""Errors in the form that OpenAI's clients parse, as one body or as the last events of a stream."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REFUSED = "inference_suspended"
ABORTED = "inference_aborted"


KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "service_unavailable"}


def kind_of(status: int) -> str:
    """The type of an error that is answered with this status."""
    return KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error(message: str, code: str, kind: str = "service_unavailable", param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def last_events(body: dict[str, Any]) -> bytes:
    """The orderly end of an event stream. It begins with an empty line: the event before may have been cut in two."""
    return b"\n\ndata: " + json.dumps(body).encode() + b"\n\ndata: [DONE]\n\n"


async def reply(
    send: Send, status: int, content: dict[str, Any], retry_after_s: float | None = None, close: bool = False
) -> None:
    """Send one JSON response."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(retry_after_s))).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def swallow(receive: Receive) -> None:
    """Read the whole body: a connection closed with unread bytes is reset, and the response is lost with it."""
    while (await receive()).get("more_body", False):
        pass
