"""Clients that mean harm, at the door over a small engine: what they cost is bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psutil
import pytest

from deploy.services import load_configuration
from services.gateway.metrics import CONNECTIONS
from services.gateway.servers import open_door
from shared.config.settings import ENGINE_SOCKET, Settings
from shared.drivers.inference.open import open_gate
from tests.support.configurations import configured
from tests.support.fakes.engines import FakeEngine, fake_engine, until
from tests.support.gateways import BASE, tables_of
from tests.support.servers import free_port_base

MIB = 1024**2
SILENT = 8
LIMITS = {"max_body": 64 * 1024, "connections": 40, "read_within_s": 1.0, "write_within_s": 1.0}
CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": BASE, "messages": [], "max_tokens": 2}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ENDLESS = {"model": BASE, "messages": [], "max_tokens": 100_000, "stream": True}


class Target:
    """The open door and the engine behind it."""

    def __init__(self, settings: Settings, engine: FakeEngine) -> None:
        self.url, self.port, self.engine = settings.gateway_url, settings.port("gateway"), engine

    async def send(self, *parts: bytes, pause_s: float = 0.0) -> bytes:
        """Send raw bytes, and return all that comes until the server closes or is silent for a second."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause_s)
            return await asyncio.wait_for(read_all(reader), 8)
        finally:
            writer.close()

    async def is_answered(self) -> bool:
        async with httpx.AsyncClient(base_url=self.url, timeout=5) as client:
            return (await client.post(CHAT, content=BODY, headers={"content-type": "application/json"})).is_success

    async def is_idle(self) -> bool:
        """The engine works on nothing, and no connection of a client is left."""
        return not (await self.engine.vllm.activity()).left and CONNECTIONS._value.get() == 0


async def read_all(reader: asyncio.StreamReader) -> bytes:
    found = b""
    with suppress(ConnectionError, TimeoutError):
        while part := await asyncio.wait_for(reader.read(65536), 4):
            found += part
    return found


@pytest.fixture
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    """The parameter is the time of a token; none by default."""
    settings = Settings(home=tmp_path, port_base=free_port_base())
    socket = settings.make_engine_dir("rune0") / ENGINE_SOCKET
    async with fake_engine(socket=socket, token_s=getattr(request, "param", 0), base=BASE) as engine:
        own = configured(settings, tmp_path, **tables_of(1, tmp_path, LIMITS))
        async with open_door(own, load_configuration(own)):
            await open_gate(own, "rune0").open()
            target = Target(own, engine)
            await until(target.is_answered)
            yield target


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def error_of(answer: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return error


async def test_a_head_that_never_ends_is_cut_off_and_others_are_answered(door: Target) -> None:
    async def drip() -> float:
        began = monotonic()
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        with suppress(ConnectionError):
            for byte in HEAD * 3:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        return monotonic() - began

    dripping = [asyncio.create_task(drip()) for _ in range(30)]
    await asyncio.sleep(0.3)

    assert await door.is_answered()
    assert max(await asyncio.gather(*dripping)) < 3
    await until(door.is_idle)


async def test_a_body_that_never_ends_is_answered_and_cut_off(door: Target) -> None:
    began = monotonic()

    answer = await door.send(HEAD, b"Content-Length: 1000\r\n\r\n", b'{"mo')

    assert status_of(answer) == 408 and error_of(answer)["code"] == "request_timeout"
    assert monotonic() - began < 5
    await until(door.is_idle)


async def test_more_connections_than_allowed_are_answered_and_the_others_stay(door: Target) -> None:
    open_ones = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(int(LIMITS["connections"]))]

    answer = await door.send(b"")

    assert status_of(answer) == 503 and b"retry-after: 2" in answer and error_of(answer)["code"] == "busy"
    for _, writer in open_ones:
        writer.close()
    await until(door.is_idle)
    assert await door.is_answered()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused_and_not_held(door: Target, chunked: bool) -> None:
    before = psutil.Process().memory_info().rss
    length = 512 * MIB if not chunked else 0
    head = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % length)
    part = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    answers = await asyncio.gather(*(door.send(head, *[part] * 40) for _ in range(20)))

    refused = [answer for answer in answers if answer]
    assert refused and 413 in {status_of(answer) for answer in refused} <= {413, 503}  # 503: all of them together
    grown = psutil.Process().memory_info().rss - before
    print(f"{len(refused)} of {len(answers)} read the refusal; {grown / MIB:.1f} MiB more")
    assert grown < 64 * MIB
    await until(door.is_idle)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(BODY), 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        (b"Content-Length: %d\r\nContent-Length: 5\r\n" % len(BODY), 400),
        (b"Content-Length: %d, 5\r\n" % len(BODY), 400),
        (b"Content-Length: +5\r\n", 400),
        (b"Content-Length: -5\r\n", 400),
        (b"Transfer-Encoding: identity\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", 400),
        (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(BODY), 415),
        (b"Content Length: 5\r\n", 400),
        (b"X: a\r\n\tb\x00\r\n", 400),
        (b"X: " + b"a" * 20_000 + b"\r\n", 400),
        (b"Host: other\r\nContent-Length: %d\r\n" % len(BODY), 400),
        (b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(BODY), 415),
        (b"Soulforge-Inside: 1\r\nX-Request-Id: 1\r\nContent-Length: %d\r\n" % len(BODY), 200),
    ],
)
async def test_a_request_is_read_one_way_or_refused(door: Target, headers: bytes, status: int) -> None:
    answer = await door.send(HEAD + headers + b"Connection: close\r\n\r\n" + BODY)

    assert status_of(answer) == status, answer
    await until(door.is_idle)


async def test_pipelined_requests_are_answered_one_after_the_other(door: Target) -> None:
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    last = request.replace(b"POST", b"DELETE").replace(b"Host", b"Connection: close\r\nHost")

    answer = await door.send(request * 5 + last)

    assert answer.count(b"HTTP/1.1 200 OK") == 5 and answer.count(b"HTTP/1.1 405") == 1
    await until(door.is_idle)


async def leave_early(door: Target) -> None:
    async with (
        httpx.AsyncClient(base_url=door.url, timeout=30) as client,
        client.stream("POST", CHAT, json={**ENDLESS, "max_tokens": 1000}) as answer,
    ):
        await anext(answer.aiter_bytes())


async def leave_at_once(door: Target) -> None:
    body = json.dumps({**ENDLESS, "max_tokens": 1000, "stream": False}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await asyncio.sleep(0.2)
    writer.transport.abort()


@pytest.mark.parametrize("door", [0.05], indirect=True)
@pytest.mark.parametrize("leave", [leave_early, leave_at_once])
async def test_a_client_that_leaves_ends_the_engine_s_work(
    door: Target, leave: Callable[[Target], Awaitable[None]]
) -> None:
    for _ in range(3):
        await asyncio.gather(*(leave(door) for _ in range(10)))

    await until(door.is_idle, 5)
    assert await door.is_answered()


async def test_a_client_that_does_not_read_is_cut_off_and_what_waits_for_it_is_bounded(door: Target) -> None:
    process = psutil.Process()
    body = json.dumps(ENDLESS).encode()
    before, began = process.memory_info().rss, monotonic()
    clients = [small_socket(door.port) for _ in range(SILENT)]
    for client in clients:
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await until(lambda: CONNECTIONS._value.get() == SILENT)
    most = 0
    while not await door.is_idle():
        most = max(most, process.memory_info().rss - before)
        assert monotonic() - began < 20
        await asyncio.sleep(0.1)
    print(f"{SILENT} clients that read nothing: {most / MIB:.1f} MiB at most, gone after {monotonic() - began:.1f} s")
    assert most < 16 * MIB
    for client in clients:
        client.close()


def small_socket(port: int) -> socket.socket:
    """A connection for which the kernel holds little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    return client


async def test_nothing_else_of_the_engine_is_reached(door: Target) -> None:
    async with httpx.AsyncClient(base_url=door.url) as client:
        for method, path in (
            ("GET", "/metrics"),
            ("POST", "/v1/load_lora_adapter"),
            ("POST", "/soulforge/gate/close"),
            ("POST", "/v1/chat/completions/"),
            ("POST", "/v1/chat/completions/../../sleep"),
            ("POST", "/v1/chat%2Fcompletions/x"),
            ("GET", "/v1/chat/completions"),
            ("POST", "//v1/models"),
            ("GET", "/docs"),
        ):
            answer = await client.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code in (404, 405), (path, answer.text)
            assert answer.json()["error"]["code"] == "not_found"
            assert answer.status_code == 404 or "allow" in answer.headers, path
