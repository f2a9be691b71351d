"""Gates of engines: closed until they are opened, and as they were after a restart."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.gateway.closed import Closed
from services.gateway.engines import Engines
from services.gateway.errors import Refusal
from services.gateway.gates import Gate, Gates
from services.gateway.in_flight import InFlight
from services.gateway.keys.client import LOCAL
from shared.config.model import embedded
from shared.config.settings import Settings, SettingsError


def test_an_engine_that_was_never_opened_is_closed(tmp_path: Path) -> None:
    state = Gates(tmp_path, ["chat"]).by_rune["chat"].state()

    assert (state["state"], state["reason"]) == ("closed", "starting: not yet proven")
    assert (state["in_flight"], state["refused"], state["admitted_total"]) == (0, 0, 0)


async def test_a_restart_knows_what_was_commanded(tmp_path: Path) -> None:
    gates = Gates(tmp_path, ["chat", "ears"])
    await gates.open("chat")
    await gates.close("ears", "training scribe", 77)

    again = Gates(tmp_path, ["chat", "ears", "new"]).by_rune

    assert again["chat"].state()["state"] == "open"
    assert {name: again["ears"].state()[name] for name in ("reason", "retry_after_s")} == {
        "reason": "training scribe",
        "retry_after_s": 77,
    }
    assert again["new"].state()["state"] == "closed"


async def test_a_gate_that_is_closed_again_has_the_newest_reason_and_the_first_time(tmp_path: Path) -> None:
    gates = Gates(tmp_path, ["chat"])
    await gates.open("chat")
    first = (await gates.close("chat", "one", 10)).state()
    gates.by_rune["chat"].count_refused()
    second = (await gates.close("chat", "two", 20)).state()

    assert (second["reason"], second["since"], second["refused"]) == ("two", first["since"], 1)
    state = (await gates.open("chat")).state()
    assert (state["state"], state["refused"], state["refused_total"]) == ("open", 0, 1)
    assert (await gates.close("chat", "three", 1)).state()["refused"] == 0


def test_the_estimate_shrinks_with_time_and_is_never_less_than_a_second() -> None:
    def left_s(passed_s: float) -> float:
        then = datetime.now(UTC) - timedelta(seconds=passed_s)
        return Closed(reason="", retry_after_s=100, since=then, commanded_at=then).left_s()

    assert left_s(30) == pytest.approx(70, abs=1)
    assert left_s(200) == 1


async def test_an_open_gate_of_a_held_anvil_is_closed_unless_it_was_commanded_since_the_start(tmp_path: Path) -> None:
    before = Gates(tmp_path, ["held", "commanded", "free"])
    for rune in before.by_rune:
        await before.open(rune)
    gates = Gates(tmp_path, ["held", "commanded", "free"])
    await gates.open("commanded")

    await gates.close_held({"held", "commanded"})

    assert {rune: gate.state()["state"] for rune, gate in gates.by_rune.items()} == {
        "held": "closed",
        "commanded": "open",
        "free": "open",
    }
    assert Gates(tmp_path, ["held"]).by_rune["held"].state()["reason"] == "a ritual holds its anvil"


async def test_what_could_not_be_written_is_written_by_the_same_command_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = Gates(tmp_path, ["chat"])
    await gates.open("chat")
    woken: list[bool] = []
    gates.changed = lambda: woken.append(gates.by_rune["chat"].closed is None)
    for command in (partial(gates.close, "chat", "training scribe", 60), partial(gates.open, "chat")):
        with monkeypatch.context() as full:
            full.setattr("services.gateway.kept.write_atomically", _full_disk)
            with pytest.raises(OSError, match="No space left"):
                await command()
        await command()

        assert Gates(tmp_path, ["chat"]).by_rune["chat"].state()["state"] == gates.by_rune["chat"].state()["state"]
    assert woken[-1], "who waits goes on, whether or not the opening is on disk"


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "gates.json").write_text("{")

    with pytest.raises(SettingsError, match="remove it where it is damaged"):
        Gates(tmp_path, ["chat"])


def a_request(yields: bool = False) -> InFlight:
    async def nothing(*_: Any) -> Any: ...

    return InFlight(LOCAL, nothing, nothing, yields)


async def an_open_gate(folder: Path) -> Gate:
    return await Gates(folder, ["chat"]).open("chat")


async def test_a_request_of_low_priority_is_refused_while_there_are_others_and_shortly_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, other = await an_open_gate(tmp_path), a_request()
    gate.admit(a_request(yields=True))
    gate.requests.clear()
    gate.admit(other)

    with pytest.raises(Refusal, match="others ask") as busy:
        gate.admit(a_request(yields=True))
    gate.leave(other)
    with pytest.raises(Refusal, match="quiet moment"):
        gate.admit(a_request(yields=True))
    monkeypatch.setattr("services.gateway.gates.QUIET_S", 0.0)
    gate.admit(a_request(yields=True))

    assert (busy.value.status, busy.value.retry_after_s) == (503, 2.0)
    assert (gate.admitted, gate.asked, gate.state()["low_priority"], gate.state()["in_flight"]) == (1, 0, 1, 1)


async def test_an_engine_that_works_on_requests_of_low_priority_alone_has_the_least_work(tmp_path: Path) -> None:
    engines = Engines(Settings(home=tmp_path), embedded())
    [busy] = engines.all
    free = replace(busy, gate=await an_open_gate(tmp_path / "other"))
    busy.gate.closed, engines.all = None, [busy, free]
    busy.models = free.models = frozenset({"scribe@a"})
    busy.gate.admit(a_request())
    for _ in range(2):
        free.gate.admit(a_request(yields=True))
    assert engines.find("scribe@a", ()) is free


async def test_requests_of_low_priority_end_when_another_comes_and_when_the_gate_closes(tmp_path: Path) -> None:
    gate = await an_open_gate(tmp_path)
    first, second = a_request(yields=True), a_request(yields=True)
    gate.admit(first)
    gate.admit(second)
    assert not first.ended and not second.ended

    other = a_request()
    gate.admit(other)
    assert first.ended and second.ended and not other.ended

    gate.requests.clear()
    gate.admit(third := a_request(yields=True))
    gate.close("training scribe", 60)
    assert third.ended


SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    ("headers", "ends", "last"),
    [(None, True, b"version_withdrawn"), (SSE, True, b"data: [DONE]\n\n"), (JSON, False, b"rest")],
)
async def test_what_is_ended_gets_an_error_but_a_complete_answer_is_sent_on(
    headers: list[tuple[bytes, bytes]] | None, ends: bool, last: bytes
) -> None:
    sent: list[Any] = []
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def answer(send: Any) -> None:
        if headers:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        begun.set()
        await may_end.wait()
        await send({"type": "http.response.body", "body": b"rest", "more_body": False})

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    request = InFlight(LOCAL, receive, send)
    running = asyncio.create_task(request.run(answer))
    await begun.wait()
    assert request.end(Refusal(403, "version_withdrawn", "it was withdrawn")) is ends
    may_end.set()
    await running

    assert request.ended is ends
    assert last in sent[-1]["body"] and not sent[-1]["more_body"]
    assert sent[0]["status"] == (200 if headers else 403)
    assert (b"rest" in b"".join(message.get("body", b"") for message in sent)) is not ends
