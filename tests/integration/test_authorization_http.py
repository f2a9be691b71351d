"""Who may use which route of the gateway and of a service's health server, tried on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from services.registry.app import app
from shared.storage.postgres import Pool
from tests.support.authorization import Attempt, compare
from tests.support.fakes.engines import BASE
from tests.support.gateways import gateway_over
from tests.support.servers import House
from tests.support.services import handlers_only, running

REFUSED = (httpx.codes.FORBIDDEN, httpx.codes.UNSUPPORTED_MEDIA_TYPE, httpx.codes.METHOD_NOT_ALLOWED)
ABSENT = (httpx.codes.NOT_FOUND,)  # of the gateway, which has few routes
ABOUT = """\
The gateway's door and the health server of a service. A *page* is one that the owner's browser shows: of another site, or of
a name that was rebound to this machine; "yes" is an answer that it can read or a command that arrives, with any request that a
browser lets it send. A *program* is any on this machine, of every account: it reaches the ports, but neither the sockets of
the engines nor that on which the gateway takes commands about admission ([files](files.md))."""
GATEWAY = (
    ("gateway: list the models", "GET", "/v1/models"),
    ("gateway: ask a model", "POST", "/v1/chat/completions"),
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
BODY = {"model": BASE, "messages": [], "max_tokens": 1, "reason": "test", "lora_name": "a", "lora_path": "/nowhere"}


def list_requests(role: str, method: str, path: str, url: str) -> Iterable[dict[str, str]]:
    """The headers of every request that a role can send."""
    json = {"content-type": "application/json"}
    match role:
        case "page of another site":
            for origin in ("http://page.example", "http://127.0.0.1", "null"):
                for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
                    yield {"origin": origin, "content-type": kind}
            if method == "POST":
                yield {"content-type": "text/plain"}  # of a browser that sets no Origin
        case "rebound page":
            name = f"page.example:{urlsplit(url).port}"
            yield {"host": name, **json}
            yield {"host": name, "origin": f"http://{name}", **json}
        case "program":
            yield json


async def try_all(
    url: str, operations: Iterable[tuple[str, str, str]], refused: Sequence[int] = REFUSED
) -> AsyncIterator[Attempt]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for operation, method, path in operations:
            for role in ROLES:
                answers = [
                    (await client.request(method, path, json=BODY, headers=headers)).status_code
                    for headers in list_requests(role, method, path, url)
                ]
                yield Attempt(role, operation, any(status not in refused for status in answers))


async def test_the_table_of_http(house: House, admin: Pool, tmp_path: Path) -> None:
    async with gateway_over(house.settings, admin, tmp_path, token_s=0) as gateway:
        await gateway.serves(BASE)
        attempts = [attempt async for attempt in try_all(gateway.url, GATEWAY, (*REFUSED, *ABSENT))]
    async with running(handlers_only(app), house.settings) as url:
        attempts += [attempt async for attempt in try_all(url, SERVICE)]

    compare("http", "HTTP", ABOUT, attempts)
