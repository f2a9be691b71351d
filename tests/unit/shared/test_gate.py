"""The gate, message by message: who is let in, who is refused, what is counted, and how what is under way can be ended."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any

import pytest

from shared.config.settings import PROJECT
from shared.drivers.inference.gate import request
from shared.drivers.inference.gate.asgi import CLIENT, OPEN, PROBES, Gate
from shared.drivers.inference.gate.key import HEADER, VALID_S, sign

Message = MutableMapping[str, Any]
DEADLINE_S = 10.0
CHAT = "/v1/chat/completions"
KEY = "the key of the home"
HOST = (b"host", b"127.0.0.1:7610")
JSON = (b"content-type", b"application/json")
INSIDE = (b"soulforge-inside", b"1")
EVENTS = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}


class Client:
    """One request as a server would carry it to the application."""

    def __init__(
        self, method: str, path: str, body: bytes = b"{}", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        headers = headers or (HOST, JSON, signature(method, path))
        self.scope: Message = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        self.sent: list[Message] = []
        self.read: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def receive(self) -> Message:
        message = await self.incoming.get()
        self.read.append(message)
        return message

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def over(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


class Application:
    """An engine whose answers wait until the test lets them go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.heard: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        await receive()
        if scope["path"] == "/v1/responses/slow":
            leaves = asyncio.ensure_future(receive())
            goes = asyncio.ensure_future(self.go.wait())
            await asyncio.wait({leaves, goes}, return_when=asyncio.FIRST_COMPLETED)
            goes.cancel()
            if leaves.done():
                self.heard.append(leaves.result()["type"])
                return
            leaves.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'"answer"', "more_body": False})


@pytest.fixture(autouse=True)
def key_of_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOULFORGE_ENGINE_KEY", KEY)


def signature(method: str, path: str, key: str = KEY, at: float | None = None) -> tuple[bytes, bytes]:
    return HEADER.encode(), sign(key, method, path, time.time() if at is None else at).encode()


async def ask(gate: Gate, method: str, path: str, said: Any = None, inside: bool = False) -> Client:
    """Ask as one of our own services does."""
    headers = (HOST, JSON, signature(method, path), *([INSIDE] if inside else []))
    client = Client(method, path, b"" if said is None else json.dumps(said).encode(), headers)
    await asyncio.wait_for(gate(client.scope, client.receive, client.send), DEADLINE_S)
    return client


async def state(gate: Gate) -> Any:
    return (await ask(gate, "GET", "/soulforge/gate")).said


async def close(gate: Gate, reason: str = "training scribe", retry_after_s: float = 60) -> Client:
    return await ask(gate, "POST", "/soulforge/gate/close", {"reason": reason, "retry_after_s": retry_after_s})


async def until(true: Callable[[], bool]) -> None:
    deadline = monotonic() + DEADLINE_S
    while not true():
        assert monotonic() < deadline
        await asyncio.sleep(0.005)


def begin(gate: Gate, client: Client) -> asyncio.Task[None]:
    return asyncio.create_task(_run(gate(client.scope, client.receive, client.send)))


async def _run(work: Awaitable[None]) -> None:
    await work


async def test_an_open_gate_passes_a_request_and_its_answer() -> None:
    gate = Gate(Application())

    client = await ask(gate, "POST", CHAT, {"model": "m"})

    assert (client.status, client.said) == (200, "answer")
    assert (await state(gate))["admitted_total"] == 1


async def test_a_closed_gate_refuses_at_once_and_says_why_since_when_and_when_to_ask_again() -> None:
    application = Application()
    gate = Gate(application)
    since = (await close(gate)).said["since"]

    client = await ask(gate, "POST", CHAT, {"model": "m"})

    assert client.status == 503
    assert client.headers[b"retry-after"] == b"60"
    assert client.headers[b"connection"] == b"close"
    assert client.headers[b"content-length"] == str(len(client.body)).encode()
    error = client.said["error"]
    assert error["code"] == "inference_suspended" and error["type"] == "service_unavailable"
    assert "training scribe" in error["message"] and since[:19] in error["message"] and "60 s" in error["message"]
    assert application.asked == []


@pytest.mark.parametrize(
    "path",
    [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/score", "/pooling"],
)
async def test_whatever_asks_for_the_engines_time_is_refused(path: str) -> None:
    gate = Gate(Application())
    await close(gate)

    assert (await ask(gate, "POST", path)).status == 503


async def test_a_refused_request_is_read_to_its_end_so_that_the_answer_is_not_lost_in_a_reset() -> None:
    gate = Gate(Application())
    await close(gate)
    client = Client("POST", CHAT)
    client.incoming = asyncio.Queue()
    for more in (True, True, False):
        client.incoming.put_nowait({"type": "http.request", "body": b"x" * 70_000, "more_body": more})

    await gate(client.scope, client.receive, client.send)

    assert (client.status, len(client.read)) == (503, 3)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/v1/models"),
        ("POST", "/ping"),
        ("POST", "/sleep"),
        ("POST", "/v1/load_lora_adapter"),
    ],
)
async def test_health_metrics_models_and_administration_pass_a_closed_gate_uncounted(method: str, path: str) -> None:
    gate = Gate(Application())
    await close(gate)

    assert (await ask(gate, method, path)).status == 200
    assert (await state(gate))["admitted_total"] == 0


async def test_our_own_services_pass_a_closed_gate() -> None:
    gate = Gate(Application())
    await close(gate)

    assert (await ask(gate, "POST", CHAT, {"model": "m"}, inside=True)).status == 200


async def test_a_request_that_was_under_way_goes_on_when_the_gate_is_closed() -> None:
    application = Application()
    gate = Gate(application)
    client = Client("POST", "/v1/responses/slow")
    task = begin(gate, client)
    await until(lambda: bool(application.asked))

    await close(gate)
    assert (await state(gate))["in_flight"] == 1
    application.go.set()
    await task

    assert (client.status, client.said) == (200, "answer")
    assert (await state(gate))["in_flight"] == 0


async def test_an_opened_gate_admits_again() -> None:
    gate = Gate(Application())
    await close(gate)

    opened = await ask(gate, "POST", "/soulforge/gate/open")

    assert opened.said["state"] == "open"
    assert (await ask(gate, "POST", CHAT)).status == 200


async def test_a_stream_is_under_way_until_its_last_byte() -> None:
    go = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(EVENTS)
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    gate, client = Gate(stream), Client("POST", CHAT)
    task = begin(gate, client)
    await until(lambda: len(client.sent) == 2)
    assert (await state(gate))["in_flight"] == 1
    go.set()
    await task

    assert (await state(gate))["in_flight"] == 0
    assert client.body == b"data: 1\n\ndata: [DONE]\n\n"


async def test_an_application_that_fails_is_not_counted_for_ever_and_its_error_reaches_the_server() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("engine fell over")

    gate = Gate(fail)

    with pytest.raises(RuntimeError, match="engine fell over"):
        await ask(gate, "POST", CHAT)
    assert (await state(gate))["in_flight"] == 0


async def test_a_server_that_gives_a_request_up_ends_the_application() -> None:
    application = Application()
    gate, client = Gate(application), Client("POST", "/v1/responses/slow")
    task = begin(gate, client)
    await until(lambda: bool(application.asked))

    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert (await state(gate))["in_flight"] == 0


async def test_a_client_that_leaves_is_heard_by_the_application() -> None:
    application = Application()
    gate, client = Gate(application), Client("POST", "/v1/responses/slow")
    client.incoming.put_nowait({"type": "http.disconnect"})

    await asyncio.wait_for(gate(client.scope, client.receive, client.send), DEADLINE_S)

    assert application.heard == ["http.disconnect"]


async def test_an_application_that_cancels_its_wait_loses_no_message() -> None:
    heard: list[str] = []

    async def impatient(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        client.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.sleep(0.05)
        heard.append((await receive())["type"])

    client = Client("POST", CHAT)
    await asyncio.wait_for(Gate(impatient)(client.scope, client.receive, client.send), DEADLINE_S)

    assert heard == ["http.disconnect"]


async def test_an_abort_ends_a_request_that_has_no_answer_yet_with_a_clean_error() -> None:
    application = Application()
    gate, client = Gate(application), Client("POST", "/v1/responses/slow")
    task = begin(gate, client)
    await until(lambda: bool(application.asked))
    await close(gate)

    aborted = await ask(gate, "POST", "/soulforge/gate/abort")
    await task

    assert (aborted.said["aborted"], aborted.said["in_flight"], aborted.said["aborted_total"]) == (1, 0, 1)
    assert application.heard == ["http.disconnect"]
    assert client.status == 503 and client.over
    assert client.said["error"]["code"] == "inference_aborted"
    assert "training scribe" in client.said["error"]["message"]


async def test_an_abort_ends_a_stream_with_an_error_event_and_done() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(EVENTS)
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"too late", "more_body": True})

    gate, client = Gate(stream), Client("POST", CHAT)
    task = begin(gate, client)
    await until(lambda: len(client.sent) == 2)
    await close(gate)

    await ask(gate, "POST", "/soulforge/gate/abort")
    await task

    events = [line.removeprefix("data: ") for line in client.body.decode().split("\n") if line]
    assert events[0] == "1" and events[2] == "[DONE]" and len(events) == 3
    assert json.loads(events[1])["error"]["code"] == "inference_aborted"
    assert client.over


async def test_an_abort_leaves_a_whole_answer_that_is_being_written_out() -> None:
    go = asyncio.Event()

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await go.wait()
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    gate, client = Gate(whole), Client("POST", CHAT)
    task = begin(gate, client)
    await until(lambda: len(client.sent) == 1)

    assert (await ask(gate, "POST", "/soulforge/gate/abort")).said["aborted"] == 0
    go.set()
    await task

    assert client.body == b"{}"


async def test_a_second_abort_counts_nothing_twice() -> None:
    application = Application()
    gate = Gate(application)
    tasks = [begin(gate, Client("POST", "/v1/responses/slow")) for _ in range(3)]
    await until(lambda: len(application.asked) == 3)

    counts = [(await ask(gate, "POST", "/soulforge/gate/abort")).said["aborted"] for _ in range(2)]
    await asyncio.gather(*tasks)

    assert counts == [3, 0]


async def test_an_application_that_does_not_listen_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "LEAVE_S", 0.05)
    cancelled = asyncio.Event()

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    gate, client = Gate(deaf), Client("POST", CHAT)
    task = begin(gate, client)
    await asyncio.sleep(0.01)

    assert (await ask(gate, "POST", "/soulforge/gate/abort")).said["aborted"] == 1
    await task

    assert cancelled.is_set() and client.status == 503


async def test_the_client_of_an_application_that_cannot_be_ended_is_told_and_the_request_stays_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request, "LEAVE_S", 0.05)
    monkeypatch.setattr("shared.drivers.inference.gate.asgi.ABORT_WITHIN_S", 0.3)
    go = asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    gate, client = Gate(stuck), Client("POST", CHAT)
    task = begin(gate, client)
    await asyncio.sleep(0.01)

    said = (await ask(gate, "POST", "/soulforge/gate/abort")).said

    assert (said["aborted"], said["in_flight"]) == (1, 1)
    assert client.status == 503
    go.set()
    await task
    assert (await state(gate))["in_flight"] == 0


async def test_closing_again_keeps_the_time_of_the_first_and_the_reason_of_the_last() -> None:
    gate = Gate(Application())
    first = (await close(gate, "one")).said
    await ask(gate, "POST", CHAT)

    second = (await close(gate, "two", 5)).said

    assert (second["since"], second["reason"], second["retry_after_s"]) == (first["since"], "two", 5)
    assert (second["refused"], second["refused_total"]) == (1, 1)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ([], "JSON object"),
        ({"reason": "r", "why": 1}, "JSON object"),
        ({}, "`reason`"),
        ({"reason": " "}, "`reason`"),
        ({"reason": "r", "retry_after_s": -1}, "`retry_after_s`"),
        ({"reason": "r", "retry_after_s": True}, "`retry_after_s`"),
        ({"reason": "r", "retry_after_s": "60"}, "`retry_after_s`"),
    ],
)
async def test_a_wrong_command_is_refused_and_changes_nothing(said: Any, wrong: str) -> None:
    gate = Gate(Application())

    client = await ask(gate, "POST", "/soulforge/gate/close", said)

    assert client.status == 400 and wrong in client.said["error"]["message"]
    assert (await state(gate))["state"] == "open"


@pytest.mark.parametrize(("method", "path"), [("GET", "/soulforge/gate/close"), ("POST", "/soulforge/gate/lock")])
async def test_an_unknown_command_is_not_passed_to_the_engine(method: str, path: str) -> None:
    application = Application()

    assert (await ask(Gate(application), method, path)).status == 404
    assert application.asked == []


async def test_a_gate_starts_closed_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOULFORGE_GATE", "closed")
    gate = Gate(Application())

    assert (await ask(gate, "POST", CHAT)).status == 503
    assert (await ask(gate, "POST", CHAT, inside=True)).status == 200
    assert (await state(gate))["reason"] == "starting: not yet proven"


async def test_a_websocket_is_refused_by_a_closed_gate() -> None:
    application = Application()
    gate, client = Gate(application), Client("GET", "/v1/realtime")
    client.scope["type"] = "websocket"
    await close(gate)

    await gate(client.scope, client.receive, client.send)

    assert client.sent[0]["type"] == "websocket.close" and client.sent[0]["code"] == 1013
    assert application.asked == []


async def as_client(gate: Gate, method: str, path: str, *headers: tuple[bytes, bytes]) -> int:
    client = Client(method, path, b"{}", headers)
    await asyncio.wait_for(gate(client.scope, client.receive, client.send), DEADLINE_S)
    return client.status


@pytest.mark.parametrize(
    "path",
    ["/soulforge/gate", "/v1/load_lora_adapter", "/sleep", "/collective_rpc", "/server_info", "/invented", "/v1/chat"],
)
async def test_an_admin_route_needs_a_signature_of_its_own(path: str) -> None:
    application = Application()
    gate = Gate(application)

    for wrong in (
        (),
        (signature("POST", path, "another key"),),
        (signature("GET", path),),
        (signature("POST", "/v1/unload_lora_adapter"),),
        (signature("POST", path, at=time.time() - VALID_S - 2),),
        (signature("POST", path, at=time.time() + VALID_S + 2),),
        ((HEADER.encode(), b"\xff."),),
    ):
        assert await as_client(gate, "POST", path, HOST, JSON, *wrong) == 403, wrong
    assert application.asked == []
    assert await as_client(gate, "POST", path, HOST, JSON, signature("POST", path)) != 403


async def test_the_mark_of_our_own_services_counts_only_with_a_signature() -> None:
    gate = Gate(Application())
    await close(gate)

    assert await as_client(gate, "POST", CHAT, HOST, JSON, INSIDE) == 403
    assert await as_client(gate, "POST", CHAT, HOST, JSON, INSIDE, signature("POST", CHAT)) == 200


@pytest.mark.parametrize("path", sorted(CLIENT | OPEN))
async def test_who_does_not_sign_learns_only_whether_the_engine_lives(path: str) -> None:
    gate, method = Gate(Application()), "GET" if path in PROBES | OPEN else "POST"

    assert await as_client(gate, method, path, HOST, JSON) == (200 if path in OPEN else 403)
    assert await as_client(gate, method, path, HOST, JSON, signature(method, path)) == 200


def test_a_gate_without_a_key_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOULFORGE_ENGINE_KEY")

    with pytest.raises(RuntimeError, match="SOULFORGE_ENGINE_KEY is missing"):
        Gate(Application())


async def test_a_websocket_of_a_web_page_is_refused() -> None:
    application = Application()
    page = (b"origin", b"http://page.example")
    client = Client("GET", "/v1/realtime", headers=(HOST, page))
    client.scope["type"] = "websocket"

    await Gate(application)(client.scope, client.receive, client.send)

    assert client.sent[0]["type"] == "websocket.close" and client.sent[0]["code"] == 1008
    assert application.asked == []


def test_the_gate_needs_nothing_but_the_standard_library() -> None:
    script = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import shared.drivers.inference.gate.asgi"

    loaded = subprocess.run((sys.executable, "-I", "-S", "-c", script), capture_output=True, text=True, check=False)

    assert loaded.returncode == 0, loaded.stderr
