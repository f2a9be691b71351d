"""Who may use which route of the engine's gate and of a service's health server, tried on real servers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from services.registry.app import app
from shared.drivers.inference.gate.key import HEADER, sign
from shared.storage.postgres import Pool
from tests.support.authorization import Attempt, compare
from tests.support.fakes.engines import BASE, KEY, fake_engine
from tests.support.gateways import gateway_over
from tests.support.servers import House
from tests.support.services import handlers_only, running

REFUSED = (httpx.codes.FORBIDDEN, httpx.codes.UNSUPPORTED_MEDIA_TYPE, httpx.codes.METHOD_NOT_ALLOWED)
ABSENT = (httpx.codes.NOT_FOUND,)  # of the gateway, which has few routes
ABOUT = """\
The gateway's door, the gate in the engine's process, and the health server of a service. A *page* is one that the owner's browser shows: of
another site, or of a name that was rebound to this machine; "yes" is an answer that it can read or a command that arrives,
with any request that a browser lets it send. A *local account* is another account of this machine, without the home's key or
with a wrong one: it is a client of the gateway, as every program is that reaches its port."""
INSIDE = {"soulforge-inside": "1"}
ENGINE = (
    ("engine: read the models", "GET", "/v1/models"),
    ("engine: read its health", "GET", "/health"),
    ("engine: read the metrics", "GET", "/metrics"),
    ("engine: ask a model", "POST", "/v1/chat/completions"),
    ("engine: load an adapter", "POST", "/v1/load_lora_adapter"),
    ("engine: unload an adapter", "POST", "/v1/unload_lora_adapter"),
    ("engine: put it to sleep", "POST", "/sleep"),
    ("engine: wake it", "POST", "/wake_up"),
    ("engine: pause it", "POST", "/pause"),
    ("engine: abort requests", "POST", "/abort_requests"),
    ("engine: drop its cache", "POST", "/reset_prefix_cache"),
    ("engine: run code in its workers", "POST", "/collective_rpc"),
    ("engine: change its weights", "POST", "/update_weights"),
    ("engine: profile it", "POST", "/start_profile"),
    ("engine: read its configuration", "GET", "/server_info"),
    ("engine: use a route that is not listed", "POST", "/v9/new"),
    ("gate: read it", "GET", "/soulforge/gate"),
    ("gate: pass it as a service", "POST", "/v1/chat/completions"),
    ("gate: close it", "POST", "/soulforge/gate/close"),
    ("gate: abort requests", "POST", "/soulforge/gate/abort"),
    ("gate: open it", "POST", "/soulforge/gate/open"),
    ("gate: end the service", "POST", "/soulforge/gate/leave"),
)
GATEWAY = (
    ("gateway: list the models", "GET", "/v1/models"),
    ("gateway: ask a model", "POST", "/v1/chat/completions"),
    ("gateway: load an adapter", "POST", "/v1/load_lora_adapter"),
    ("gateway: unload an adapter", "POST", "/v1/unload_lora_adapter"),
    ("gateway: read the engine's metrics", "GET", "/metrics"),
    ("gateway: put the engine to sleep", "POST", "/sleep"),
    ("gateway: run code in the engine's workers", "POST", "/collective_rpc"),
    ("gateway: command the gate", "POST", "/soulforge/gate/close"),
    ("gateway: pass the gate as a service", "POST", "/v1/../soulforge/gate/open"),
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
    "local account without the key",
    "local account with a wrong key",
    "our services",
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
        case "local account without the key":
            yield json
        case "local account with a wrong key":
            yield {**json, HEADER: sign("guessed", method, path, time.time())}
            yield {**json, HEADER: sign(KEY, method, "/another/route", time.time())}
            yield {**json, HEADER: sign(KEY, method, path, time.time() - 3600)}
        case "our services":
            yield {**json, HEADER: sign(KEY, method, path, time.time())}


async def try_all(
    url: str, operations: Iterable[tuple[str, str, str]], refused: Sequence[int] = REFUSED
) -> AsyncIterator[Attempt]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for operation, method, path in operations:
            for role in ROLES:
                marks = INSIDE if operation == "gate: pass it as a service" else {}
                answers = [
                    (await client.request(method, path, json=BODY, headers={**headers, **marks})).status_code
                    for headers in list_requests(role, method, path, url)
                ]
                yield Attempt(role, operation, any(status not in refused for status in answers))


async def test_the_table_of_http(house: House, admin: Pool, tmp_path: Path) -> None:
    async with gateway_over(house.settings, admin, tmp_path, token_s=0) as gateway:
        await gateway.serves(BASE)
        attempts = [attempt async for attempt in try_all(gateway.url, GATEWAY, (*REFUSED, *ABSENT))]
    async with fake_engine(token_s=0) as engine:
        attempts += [attempt async for attempt in try_all(engine.url, ENGINE)]
    async with running(handlers_only(app), house.settings) as url:
        attempts += [attempt async for attempt in try_all(url, SERVICE)]

    compare("http", "HTTP", ABOUT, attempts)


async def test_a_page_that_was_refused_has_closed_nothing() -> None:
    async with fake_engine() as engine, httpx.AsyncClient(base_url=engine.url) as client:
        page = {"origin": "http://page.example", "content-type": "text/plain"}
        answer = await client.post("/soulforge/gate/close", content='{"reason": "a page"}', headers=page)

        assert answer.status_code == httpx.codes.FORBIDDEN and "may not use this server" in answer.text
        assert not (await engine.vllm.admission()).closed
