"""Find out who sends a request: by its key, or as a program of this machine that presents none."""

from __future__ import annotations

import hmac
import ipaddress
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from services.gateway.errors import Refusal
from services.gateway.keys.client import IN_SCOPE, LOCAL, Client
from services.gateway.keys.key import Key, hash_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.gateway.keys.known import KnownKeys
    from shared.asgi.replies import App, Receive, Scope, Send

INVALID_KEY = "invalid_api_key"
NO_KEY = "none"  # for client libraries that insist on one
MINUTE_S = 60.0
#: Headers of a proxy, whose own address is no client's.
PASSED_ON = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)


class Authenticator:
    """Knows the keys, and counts what each is used for. `used`: when each was presented last, in seconds since the epoch."""

    def __init__(self, keys: KnownKeys) -> None:
        self._keys = keys
        self.used: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}

    def identify(self, request: Scope) -> Client:
        """The client of a request. Raises Refusal where it may not enter."""
        secret = find_secret(request)
        key = find_key(self._keys.all, secret or "")
        if secret is None:
            if is_local(request):
                return LOCAL
            raise _refuse("a client of another machine needs a key, as `Authorization: Bearer KEY`")
        if key is None:
            raise _refuse(
                f"this key is not known here; a client of this machine may chat without one, or as {NO_KEY!r}"
            )
        if trouble := key.find_trouble():
            raise _refuse(f"the key {key.id} {trouble}")
        self._count(key)
        return key.client()

    def _count(self, key: Key) -> None:
        """Count a request. Raises Refusal where the minute before it has as many as the key may send."""
        self.used[key.id] = time.time()
        if key.per_minute is None:
            return
        now, recent = time.monotonic(), self._recent.setdefault(key.id, deque())
        while recent and recent[0] <= now - MINUTE_S:
            recent.popleft()
        if len(recent) >= key.per_minute:
            left_s = math.ceil(recent[0] + MINUTE_S - now)
            message = f"the key {key.id} may send {key.per_minute} requests a minute; ask again in {left_s} s"
            raise Refusal(429, "rate_limit_exceeded", message, left_s, unread=True)
        recent.append(now)


class Authenticate:
    """ASGI middleware that lets a request in with its client in the scope, or answers with the refusal."""

    def __init__(self, app: App, identify: Callable[[Scope], Client]) -> None:
        self._app, self._identify = app, identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope[IN_SCOPE] = self._identify(scope)
            except Refusal as refusal:
                return await refusal.send(receive, send)
        return await self._app(scope, receive, send)


def find_secret(request: Scope) -> str | None:
    """The key that a request presents; None where it presents none. Raises Refusal where it is no bearer token, or several."""
    given = [value.decode("latin-1") for name, value in request["headers"] if name == b"authorization"]
    if not given:
        return None
    scheme, _, secret = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise _refuse("send one header `Authorization: Bearer KEY`")
    secret = secret.strip()
    return None if secret in ("", NO_KEY) else secret


def find_key(keys: Iterable[Key], secret: str) -> Key | None:
    """The key with this secret. The time that it takes depends on how many there are, and on nothing else."""
    digest, found = hash_secret(secret), None
    for key in keys:
        if hmac.compare_digest(key.hash, digest):
            found = key
    return found


def is_local(request: Scope) -> bool:
    """Whether a program of this machine sends it, by loopback or the local socket, and no proxy passes it on."""
    if any(name in PASSED_ON for name, _ in request["headers"]):
        return False
    server, peer = request["server"], request["client"]
    if server[1] is None:  # the local socket
        return True
    # Nothing comes from this server's own address but from its own machine.
    return peer is not None and (peer[0] == server[0] or ipaddress.ip_address(peer[0]).is_loopback)


def _refuse(why: str) -> Refusal:
    return Refusal(401, INVALID_KEY, why, unread=True)
