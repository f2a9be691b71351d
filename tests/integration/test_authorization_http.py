"""Who may use which route of the gateway and of a service's health server, tried on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.gateway import decisions
from services.gateway.keys.key import Key, hash_secret
from services.gateway.keys.store import insert_key, mark_revoked
from services.registry.app import app
from shared.contracts.scopes import Scope
from shared.storage.postgres import Pool
from tests.support.authorization import Attempt, compare
from tests.support.gateways import gateway_over, list_routes
from tests.support.servers import House
from tests.support.services import handlers_only, running

REFUSED = (
    httpx.codes.UNAUTHORIZED,
    httpx.codes.FORBIDDEN,
    httpx.codes.UNSUPPORTED_MEDIA_TYPE,
    httpx.codes.METHOD_NOT_ALLOWED,
)
HIDDEN = ("not_found", "model_not_found")  # codes of a route that there is not, and of a persona that a key may not use
ABOUT = """\
The gateway's door and the health server of a service. A *page* is one that the owner's browser shows: of another site, or of
a name that was rebound to this machine; "yes" is an answer that it can read or a command that arrives, with any request that a
browser lets it send. A *program* is any on this machine, of every account, without a key: it reaches the ports, but neither the
sockets of the engines nor that on which the gateway takes commands about admission ([files](files.md)). The second table has
every route of the door by the key that a client presents: by its scope; by all scopes but `admin`, for a persona that the
request is not about (a file is of none; each key has its own); none, from this machine and as a proxy passes it on; and keys
that open nothing ([ADR 29](../adr/0029-keys-and-scopes.md))."""
NOT_THERE = (
    ("gateway: load an adapter", "POST", "/v1/load_lora_adapter"),
    ("gateway: unload an adapter", "POST", "/v1/unload_lora_adapter"),
    ("gateway: read the engine's metrics", "GET", "/metrics"),
    ("gateway: put the engine to sleep", "POST", "/sleep"),
    ("gateway: run code in the engine's workers", "POST", "/collective_rpc"),
    ("gateway: close an engine", "POST", "/engines/rune0/close"),
    ("gateway: decide about a version", "POST", "/decisions"),
    ("gateway: open an engine by a crooked path", "POST", "/v1/../engines/rune0/open"),
)
SERVICE = (
    ("service: read whether it lives", "GET", "/health/live"),
    ("service: read whether it is ready", "GET", "/health/ready"),
    ("service: read the metrics", "GET", "/metrics"),
    ("service: send a command", "POST", "/health/live"),
)
ROLES = (
    "page of another site",
    "rebound page",
    "program",
)
PERSONA, OTHER = "scribe", "coder"
VERSION = f"{PERSONA}@aaa"
PARAMETERS = {"name": PERSONA, "persona": PERSONA, "id": "file-000000000000000000000000"}
FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")  # that a page may send
ANY_BODY = {"model": PERSONA, "reason": "test", "lora_name": "a", "lora_path": "/nowhere"}
BODIES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"model": PERSONA, "messages": [], "max_tokens": 1},
    "/v1/completions": {"model": PERSONA, "prompt": "a", "max_tokens": 1},
    "/v1/responses": {"model": PERSONA, "input": "a"},
    "/v1/embeddings": {"model": PERSONA, "input": "a"},
    "/v1/fine_tuning/jobs": {"model": "base", "training_file": PARAMETERS["id"], "suffix": PERSONA},
    "/v1/soulforge/decisions": {"action": "pin", "persona": PERSONA, "champion": VERSION, "why": "test"},
    "/v1/soulforge/withdrawals": {"version": "nobody@000", "why": "test"},
}
#: Clients of the second table, with the fields of their keys; without a key, or with one that is not in the database.
KEYS: dict[str, dict[str, Any]] = {
    **{str(scope): {"scopes": frozenset({scope})} for scope in Scope},
    "another persona's": {"scopes": frozenset(Scope) - {Scope.ADMIN}, "personas": frozenset({OTHER})},
    "revoked": {"scopes": frozenset({Scope.ADMIN})},
    "expired": {"scopes": frozenset({Scope.ADMIN}), "expires_at": datetime(2026, 1, 1, tzinfo=UTC)},
}
NO_KEY, ELSEWHERE, UNKNOWN = "no key", "no key, by a proxy", "unknown"
OPEN_NOTHING = (ELSEWHERE, UNKNOWN, "revoked", "expired")


def list_requests(role: str, method: str, path: str, url: str) -> Iterable[dict[str, str]]:
    """The headers of every request that a role can send."""
    json = {"content-type": "application/json"}
    match role:
        case "page of another site":
            for origin in ("http://page.example", "http://127.0.0.1", "null"):
                for kind in (*FORMS, "application/json"):
                    yield {"origin": origin, "content-type": kind}
            if method == "POST":
                yield from ({"content-type": kind} for kind in FORMS)  # of a browser that sets no Origin
        case "rebound page":
            name = f"page.example:{urlsplit(url).port}"
            yield {"host": name, **json}
            yield {"host": name, "origin": f"http://{name}", **json}
        case "program":
            yield json


async def try_all(url: str, operations: Iterable[tuple[str, str, str]]) -> AsyncIterator[Attempt]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for operation, method, path in operations:
            for role in ROLES:
                answers = [
                    await is_allowed(client, method, path, headers)
                    for headers in list_requests(role, method, path, url)
                ]
                yield Attempt(role, operation, any(answers))


async def try_keys(url: str, routes: Iterable[tuple[str, str]]) -> AsyncIterator[Attempt]:
    """Every route by every client."""
    bearing = {name: {"authorization": f"Bearer {name}"} for name in (*KEYS, UNKNOWN)}
    clients = {NO_KEY: {}, ELSEWHERE: {"x-forwarded-for": "203.0.113.9"}, **bearing}
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for method, path in routes:
            for name, headers in clients.items():
                yield Attempt(name, f"`{method} {path}`", await is_allowed(client, method, path, headers))


async def is_allowed(client: httpx.AsyncClient, method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a request gets past everything that refuses clients; the request itself may be wrong."""
    answer = await client.request(
        method, path.format(**PARAMETERS), json=BODIES.get(path, ANY_BODY), headers={**headers}
    )
    if answer.status_code in REFUSED:
        return False
    try:
        return answer.json()["error"]["code"] not in HIDDEN
    except (ValueError, LookupError, TypeError):
        return True


async def add_keys(owner: Pool) -> None:
    for name, fields in KEYS.items():
        await insert_key(owner, Key(id=name, name=name, hash=hash_secret(name), **fields))
    await mark_revoked(owner, "revoked")


async def test_the_tables_of_http(
    house: House, admin: Pool, owner: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "ANSWERED_S", 0.5)  # the registry is not there
    await add_keys(owner)
    async with gateway_over(house.settings, admin, tmp_path, token_s=0) as gateway:
        for persona in (PERSONA, OTHER):
            version, _ = await gateway.add_version(persona, "aaa")
            await gateway.move_alias(persona, version)
        await gateway.serves(PERSONA, OTHER)
        routes = list_routes(gateway.settings)
        operations = [(f"gateway: `{method} {path}`", method, path) for method, path in routes]
        attempts = [attempt async for attempt in try_all(gateway.url, (*operations, *NOT_THERE))]
        by_key = [attempt async for attempt in try_keys(gateway.url, routes)]
    async with running(handlers_only(app), house.settings) as url:
        attempts += [attempt async for attempt in try_all(url, SERVICE)]

    assert not [one for one in by_key if one.allowed and one.role in OPEN_NOTHING]
    assert {one.operation for one in by_key if one.allowed and one.role == Scope.ADMIN} == {
        one.operation for one in by_key
    }
    compare("http", "HTTP", ABOUT, attempts, by_key)
