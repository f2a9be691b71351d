"""Refuse what a web page sends without its user's knowledge: by Host (DNS rebinding), Origin and Content-Type.

A browser sends a form or a plain text to any address without asking it first; it sets Host and Origin itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass

from shared.asgi.replies import App, Receive, Scope, Send, error, kind_of, reply, swallow

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Browsers ask before they send either to another origin.
CONTENT_TYPE = "application/json"
KEY = "bearer "
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d+)?", re.IGNORECASE)
REFUSAL_S = 10.0


@dataclass(frozen=True)
class Refusal:
    """Why a request is not passed on, and its status."""

    status: int
    reason: str


def check_origin(scope: Scope, own_name: str, json_only: bool = True) -> Refusal | None:
    """Find what is wrong with the origin of a request; None where nothing is.

    Its Host must be an IP address, `localhost` or `own_name`: a page that was rebound to this machine has a name of its
    own. Its Origin must be absent or the same, and what may change something must be JSON or have a key, if `json_only`.
    """
    hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
    if len(hosts) != 1 or not _is_ours(hosts[0], own_name):
        return Refusal(403, f"this server is not called {', '.join(hosts)!r}: use its address, localhost or {own_name}")
    if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
        return Refusal(403, f"a web page of {', '.join(origins)!r} may not use this server")
    if json_only and scope["type"] == "http" and scope["method"] not in READ_METHODS and not _is_asked_for(scope):
        return Refusal(415, f"send it with Content-Type: {CONTENT_TYPE}, or with a key")
    return None


async def refuse(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    """Read the request to its end and answer with the reason; a websocket is not opened."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason[:120]})
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(swallow(receive), REFUSAL_S)
    await reply(send, refusal.status, error(refusal.reason, "forbidden", kind_of(refusal.status)))


class SameOrigin:
    """ASGI middleware that refuses requests of web pages. `own_name` is the name that the server is bound to."""

    def __init__(self, app: App, own_name: str, json_only: bool = True) -> None:
        self._app, self._own_name, self._json_only = app, own_name, json_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        called = scope["type"] in ("http", "websocket")
        if called and (refusal := check_origin(scope, self._own_name, self._json_only)):
            return await refuse(scope, receive, send, refusal)
        return await self._app(scope, receive, send)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _is_ours(host: str, own_name: str) -> bool:
    if (found := HOST.fullmatch(host)) is None:
        return False
    name = found[1].strip("[]").lower()
    if name in ("localhost", own_name.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_asked_for(scope: Scope) -> bool:
    """Whether a browser would ask before it sends this to another origin."""
    if any(value.lower().startswith(KEY) for value in _values(scope, b"authorization")):
        return True
    types = [value.partition(";")[0].strip().lower() for value in _values(scope, b"content-type")]
    return types == [CONTENT_TYPE]
