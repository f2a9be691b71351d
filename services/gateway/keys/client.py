"""The client of a request: who sends it, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.errors import Refusal
from shared.contracts.scopes import Scope

if TYPE_CHECKING:
    from shared.asgi.replies import Scope as Request

IN_SCOPE = "soulforge.client"
INSUFFICIENT_SCOPE = "insufficient_scope"


@dataclass(frozen=True)
class Client:
    """Who sends a request. `key`: the id of its key, or None; `personas`: those that it may use, or None for all."""

    key: str | None
    name: str
    scopes: frozenset[Scope]
    personas: frozenset[str] | None = None

    def has(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_use(self, persona: str) -> bool:
        return self.personas is None or persona in self.personas

    def require(self, scope: Scope, persona: str | None = None) -> None:
        """Raise Refusal unless the client has the scope, and may use the persona where one is given."""
        if not self.has(scope):
            has = ", ".join(sorted(self.scopes))
            raise Refusal(403, INSUFFICIENT_SCOPE, f"this needs the scope {scope}, and {self} has: {has}")
        if persona is not None and not self.may_use(persona):
            allowed = ", ".join(sorted(self.personas or ()))
            raise Refusal(403, INSUFFICIENT_SCOPE, f"{self} may not use {persona[:100]!r}, only: {allowed}")

    def __str__(self) -> str:
        return f"the key {self.key} of {self.name}" if self.key else "a client without a key"


#: A program of this machine that presents no key.
LOCAL = Client(None, "local", frozenset({Scope.CHAT}))
#: Who commands at the control socket.
OWNER = Client(None, "owner", frozenset({Scope.ADMIN}))


def client_of(request: Request) -> Client:
    """The client of a request, by its ASGI scope."""
    client = request[IN_SCOPE]
    assert isinstance(client, Client)
    return client
