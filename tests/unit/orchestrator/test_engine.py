"""A rune drains by the larger of two counts, and the gate before it may be away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator import engine
from services.orchestrator.engine import UNPROVEN, Rune
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.drivers.inference.port import RETRY_AFTER_S, Activity, Admission, InferenceError


@dataclass
class Engine:
    """Its own count of what runs, one after another."""

    running: Iterator[int] = field(default_factory=lambda: repeat(0))
    away: bool = False

    async def activity(self) -> Activity:
        if self.away:
            raise InferenceError("no connection")
        return Activity(running=next(self.running), waiting=0, finished_total=7)


@dataclass
class Gate:
    in_flight: int = 0
    low_priority: int = 0
    away: bool = False
    commands: list[object] = field(default_factory=list)

    async def admission(self) -> Admission:
        return self._do("admission")

    async def close(self, reason: str, retry_after_s: float) -> Admission:
        return self._do(("close", reason, retry_after_s))

    async def open(self) -> Admission:
        return self._do("open", "open")

    async def abort(self) -> int:
        self._do("abort")
        ended, self.in_flight = self.in_flight, 0
        return ended

    def _do(self, command: object, state: Any = "closed") -> Admission:
        if self.away:
            raise InferenceError("no connection")
        self.commands.append(command)
        return Admission(state=state, in_flight=self.in_flight, low_priority=self.low_priority, admitted_total=9)


class Containers:
    async def start(self, spec: object) -> None: ...


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "POLL_S", 0.001)


def a_rune(inference: Engine, gate: Gate) -> Rune:
    settings = Settings(home=Path("/nowhere"))
    return Rune("rune", settings, embedded(), Containers(), inference, gate)  # type: ignore[arg-type]


async def test_a_request_that_only_the_gateway_counts_holds_the_drain() -> None:
    assert await a_rune(Engine(), Gate(in_flight=1)).drain(0.05) == 1


async def test_work_that_the_gateway_does_not_see_holds_the_drain() -> None:
    assert await a_rune(Engine(repeat(2)), Gate()).drain(0.05) == 2


async def test_one_idle_reading_between_two_requests_is_not_taken_for_idleness() -> None:
    running = iter((0, 2, 0, 0))

    assert await a_rune(Engine(running), Gate()).drain(10.0) == 0
    assert next(running, None) is None


async def test_without_the_gateway_the_engine_counts_what_is_left() -> None:
    rune = a_rune(Engine(iter((1, 1, 0, 0))), Gate(away=True))

    assert not await rune.close("training scribe")
    assert not await rune.open()
    assert await rune.in_flight() == 1
    assert (await rune.activity()).in_flight is None
    assert await rune.abort() == 0
    assert await rune.drain(10.0) == 0


async def test_an_engine_that_is_away_does_not_hide_what_the_gateway_still_answers() -> None:
    gate = Gate(in_flight=2)
    rune = a_rune(Engine(away=True), gate)

    assert await rune.drain(0.0) == 2
    assert await rune.abort() == 2
    assert gate.commands.count("abort") == 1 and await rune.in_flight() == 0


async def test_a_rune_is_started_behind_a_closed_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spec(*_: object) -> None: ...

    monkeypatch.setattr(engine, "rune_spec", spec)
    gate = Gate()

    await a_rune(Engine(), gate).start()

    assert gate.commands == [("close", UNPROVEN, RETRY_AFTER_S)]


async def test_what_yields_to_clients_is_no_traffic_but_holds_the_drain() -> None:
    rune = a_rune(Engine(repeat(8)), Gate(in_flight=9, low_priority=8))

    traffic = await rune.traffic()

    assert (traffic.left, traffic.finished_total, traffic.admitted_total) == (1, 8, 9)
    assert await rune.in_flight() == 9


async def test_without_the_gateway_all_that_the_engine_does_is_traffic() -> None:
    assert (await a_rune(Engine(repeat(2)), Gate(away=True)).traffic()).left == 2
