"""A key: a secret that its client keeps, and what the gateway keeps of it, which is a hash and what it allows."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime

from services.gateway.keys.client import Client
from shared.contracts.frozen import Frozen
from shared.contracts.scopes import Scope

PREFIX = "sk-soulforge-"
SECRET_BYTES = 32
OWNER_KEY = "owner"  #: id, and name, of the owner's key


class Key(Frozen):
    """What is known of a key. `hash`: SHA-256 of its secret; `personas`: None for all; `per_minute`: None for no limit."""

    id: str
    name: str
    hash: str
    scopes: frozenset[Scope]
    personas: frozenset[str] | None = None
    per_minute: int | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def find_trouble(self) -> str | None:
        """Why it opens nothing now; None where it does."""
        if self.revoked_at:
            return f"was revoked at {self.revoked_at:%Y-%m-%dT%H:%M:%SZ}"
        if self.expires_at and self.expires_at <= datetime.now(UTC):
            return f"expired at {self.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        return None

    def client(self) -> Client:
        return Client(self.id, self.name, self.scopes, self.personas)


def make_secret() -> str:
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    # A fast hash is enough: what has 256 random bits cannot be guessed.
    return hashlib.sha256(secret.encode()).hexdigest()
