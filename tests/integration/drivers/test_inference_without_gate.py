"""The vLLM driver where there is no gate: vLLM's own pause in development mode, its figures, and plain refusals."""

from __future__ import annotations

import httpx
import pytest

from shared.drivers.inference.port import Activity, InferenceError, Means
from shared.drivers.inference.vllm import Vllm


class Pausing:
    """Routes of a vLLM in development mode without a gate, by hand."""

    def __init__(self) -> None:
        self.paused, self.calls = False, list[str]()
        self.running, self.waiting = 2, 1

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        match path:
            case "/is_paused":
                return httpx.Response(200, json={"is_paused": self.paused})
            case "/pause":
                return self._pause(request)
            case "/resume":
                self.paused = False
                return httpx.Response(200, json={"status": "resumed"})
            case "/metrics":
                return httpx.Response(200, text=self._metrics())
        return httpx.Response(404)

    def _pause(self, request: httpx.Request) -> httpx.Response:
        self.paused = True
        self.calls.append(request.url.params["mode"])
        if request.url.params["mode"] == "wait":
            raise httpx.ReadTimeout("it waits for what is under way")
        self.running = self.waiting = 0
        return httpx.Response(200, json={"status": "paused"})

    def _metrics(self) -> str:
        figures = {
            "num_requests_running": self.running,
            "num_requests_waiting": self.waiting,
            "request_success_total": 5,
        }
        return "".join(
            f'vllm:{name}{{engine="{engine}"}} {value}.0\n' for name, value in figures.items() for engine in "01"
        )


@pytest.fixture
def pausing(monkeypatch: pytest.MonkeyPatch) -> Pausing:
    server = Pausing()
    client = httpx.AsyncClient
    monkeypatch.setattr(
        "shared.drivers.inference.http.httpx.AsyncClient",
        lambda **said: client(**{**said, "transport": httpx.MockTransport(server.answer)}),
    )
    return server


async def test_without_a_gate_a_vllm_in_development_mode_is_paused_and_not_waited_for(pausing: Pausing) -> None:
    vllm = Vllm("http://127.0.0.1:1")

    closed = await vllm.close("training scribe")

    assert closed.closed and closed.means is Means.PAUSE
    assert pausing.calls == ["wait"]
    assert not (await vllm.open()).closed


async def test_a_paused_vllm_is_idle_although_new_requests_wait_in_it(pausing: Pausing) -> None:
    vllm = Vllm("http://127.0.0.1:1")
    await vllm.close("training scribe")
    assert await vllm.drain(0.0) == 4

    pausing.running = 0

    assert await vllm.drain(5.0) == 0


async def test_without_a_gate_what_is_under_way_is_aborted_in_the_engine(pausing: Pausing) -> None:
    assert await Vllm("http://127.0.0.1:1").abort() == 6
    assert pausing.calls == ["abort"]


async def test_the_figures_of_several_engines_are_summed(pausing: Pausing) -> None:
    now = await Vllm("http://127.0.0.1:1").activity()

    assert (now.running, now.waiting, now.finished_total) == (4, 2, 10)


async def test_missing_figures_are_not_taken_for_idleness(pausing: Pausing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "_metrics", lambda: "vllm:num_requests_running{} 0.0\n")

    with pytest.raises(InferenceError, match="num_requests_waiting"):
        await Vllm("http://127.0.0.1:1").drain(1.0)


async def test_an_engine_that_was_not_started_for_sleep_says_how_to(pausing: Pausing) -> None:
    with pytest.raises(InferenceError, match="--enable-sleep-mode"):
        await Vllm("http://127.0.0.1:1").sleep(1)


async def test_one_idle_look_between_two_requests_is_not_taken_for_idleness(pausing: Pausing) -> None:
    looks = iter((0, 2, 0, 0))
    answer = pausing._metrics

    def busy_again() -> str:
        pausing.running, pausing.waiting = next(looks), 0
        return answer()

    pausing._metrics = busy_again  # type: ignore[method-assign]

    assert await Vllm("http://127.0.0.1:1").drain(10.0) == 0
    assert next(looks, None) is None


def test_what_is_left_is_what_the_gate_or_the_engine_still_counts() -> None:
    assert Activity(running=0, waiting=0, finished_total=9, in_flight=1).left == 1
    assert Activity(running=2, waiting=1, finished_total=9, in_flight=1).left == 3
