"""Signatures of requests to the engine's admin routes, made with the key of the home (`secrets/engine`).

The key itself is never sent: while an engine is down, another account may listen on its port. What it could collect there
opens one route, for VALID_S.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "soulforge-signature"
VALID_S = 60.0


def sign(key: str, method: str, path: str, now: float) -> str:
    """Sign a request for `path` without its query. `now` is in seconds since the epoch."""
    moment = f"{now:.0f}"
    return f"{moment}.{_digest(key, method, path, moment)}"


def is_signed(key: str, signature: str, method: str, path: str, now: float) -> bool:
    """Whether `signature` was made with the key, for this method and path, at most VALID_S from `now`."""
    moment, _, digest = signature.partition(".")
    genuine = hmac.compare_digest(digest.encode(), _digest(key, method, path, moment).encode())
    return genuine and abs(now - float(moment)) <= VALID_S


def _digest(key: str, method: str, path: str, moment: str) -> str:
    return hmac.new(key.encode(), f"{method} {path} {moment}".encode(), hashlib.sha256).hexdigest()
