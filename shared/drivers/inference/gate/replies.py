"""What the gate says to clients: errors in the shape that OpenAI's clients read, whole or as the last events of a stream."""

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
# Bytes of a command to the gate that are kept; what comes beyond is read and dropped.
LONGEST_COMMAND = 64 * 1024


def error(message: str, code: str, kind: str = "service_unavailable") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def last_events(said: dict[str, Any]) -> bytes:
    """The orderly end of an event stream. It begins with an empty line: the event before may have been cut in two."""
    return b"\n\ndata: " + json.dumps(said).encode() + b"\n\ndata: [DONE]\n\n"


async def reply(send: Send, status: int, said: dict[str, Any], retry_after_s: float | None = None) -> None:
    """One JSON answer. A refusal asks for a new connection: the server behind this one may be gone by the next request."""
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after_s is not None:
        headers += [(b"retry-after", str(max(1, round(retry_after_s))).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def swallow(receive: Receive) -> bytes:
    """Read what the client still sends: a connection closed over unread bytes is reset, and the answer is lost with it."""
    body = bytearray()
    message: Message = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        if len(body) < LONGEST_COMMAND:
            body += message.get("body", b"")
    return bytes(body)
