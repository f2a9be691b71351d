"""The driver of vLLM and the client of the gateway's gate, against answers made by hand."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.drivers.inference.admission import Gate
from shared.drivers.inference.port import Activity, InferenceError
from shared.drivers.inference.vllm import Vllm

URL = "unix:///run/engine.sock"
CLOSED = {"state": "closed", "reason": "training scribe", "since": "12:00", "retry_after_s": 60.0, "in_flight": 3}


class Server:
    """Answers by path; asked for anything else it has no such route."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, bytes]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path, request.content))
        found = self.answers.get(request.url.path)
        if found is None:
            return httpx.Response(404, json={"error": "there is no such route"})
        return httpx.Response(200, text=found) if isinstance(found, str) else httpx.Response(200, json=found)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    def transport(uds: str, **_: Any) -> httpx.MockTransport:
        assert uds == "/run/engine.sock"
        return httpx.MockTransport(made.answer)

    monkeypatch.setattr("shared.drivers.inference.http.httpx.AsyncHTTPTransport", transport)
    return made


async def test_the_figures_of_several_engines_are_summed(server: Server) -> None:
    figures = {"num_requests_running": 2, "num_requests_waiting": 1, "request_success_total": 5}
    server.answers["/metrics"] = "".join(
        f'vllm:{name}{{engine="{engine}"}} {value}.0\n' for name, value in figures.items() for engine in "01"
    )

    assert await Vllm(URL).activity() == Activity(running=4, waiting=2, finished_total=10)


async def test_missing_figures_are_not_taken_for_idleness(server: Server) -> None:
    server.answers["/metrics"] = "vllm:num_requests_running{} 0.0\n"

    with pytest.raises(InferenceError, match="num_requests_waiting"):
        await Vllm(URL).activity()


async def test_an_engine_that_was_not_started_for_sleep_says_how_to(server: Server) -> None:
    with pytest.raises(InferenceError, match="--enable-sleep-mode"):
        await Vllm(URL).sleep(1)


def test_what_is_left_is_what_the_gate_or_the_engine_still_counts() -> None:
    assert Activity(running=0, waiting=0, finished_total=9, in_flight=1).left == 1
    assert Activity(running=2, waiting=1, finished_total=9, in_flight=1).left == 3


async def test_the_gate_is_commanded_by_the_name_of_its_rune(server: Server) -> None:
    server.answers |= {"/engines/chat/close": CLOSED, "/engines/chat/abort": {**CLOSED, "aborted": 3}}

    closed = await Gate(URL, "chat").close("training scribe", 60)

    assert closed.closed and closed.in_flight == 3 and closed.detail == "closed since 12:00: training scribe"
    assert await Gate(URL, "chat").abort() == 3
    assert server.asked == [
        ("POST", "/engines/chat/close", b'{"reason":"training scribe","retry_after_s":60}'),
        ("POST", "/engines/chat/abort", b""),
    ]


@pytest.mark.parametrize("answer", [None, {"state": "ajar", "in_flight": 0}, {"state": "open"}, "open"])
async def test_an_answer_that_is_no_state_of_a_gate_is_an_error(server: Server, answer: object) -> None:
    server.answers["/engines/chat"] = answer

    with pytest.raises(InferenceError, match=r"GET /engines/chat on unix:///run/engine\.sock"):
        await Gate(URL, "chat").admission()
