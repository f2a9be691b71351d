"""How anvils and runes stand, and what `reclaim` says of them, from made-up rows and a small server for a rune."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from deploy.cli.commands.anvil import back, demanded, doing
from deploy.cli.queries.runes import see
from deploy.cli.views.standing_anvils import Finding, Seen, anvil_finding, rune_finding
from deploy.cli.views.status import Standing, render
from shared.configuration.model import RuneConfig
from shared.drivers.inference.admission import HELD as PAUSED
from tests.unit.cli.rows import RITUAL, at, ritual

HELD = {"ritual": RITUAL, "persona": "scribe", "attempt": 2, "fence": 7, "live": True, "open_fence": 7}
CONTAINED = {"contained": "rune small is stuck.", "failures": 5, "until_accepted": False, "since": at(10)}
WHERE = "127.0.0.1:7610"


def row(**values: Any) -> dict[str, Any]:
    """An anvil as queries.anvils.get_anvil reads it; free without values."""
    names = ("ritual", "attempt", "fence", "live", "persona", "contained", "failures", "until_accepted", "since")
    return {**dict.fromkeys((*names, "reclaim_why", "reclaimed_until", "open_fence")), "now": at(100), **values}


def text_of(**values: Any) -> str:
    return anvil_finding("anvil", "anvil0", row(**values)).text


def test_an_anvil_is_free_or_held_and_both_are_well() -> None:
    assert anvil_finding("anvil", "anvil0", row()) == Finding("anvil", True, "anvil0 is free")
    held = anvil_finding("anvil", "anvil0", row(**HELD))
    assert held == Finding("anvil", True, "anvil0 is held by ritual 6cb89406 (scribe), attempt 2, fence 7")
    assert not anvil_finding("anvil", "anvil0", row(**{**HELD, "live": False})).well


def test_a_contained_anvil_is_a_finding_with_its_reason_and_what_ends_it() -> None:
    found = anvil_finding("anvil", "anvil0", row(**CONTAINED))
    assert not found.well
    assert found.text == (
        "anvil0 is contained for 1 m 30 s, after 5 failures: rune small is stuck; no ritual takes it until it serves again"
    )
    assert "`soulforge accept anvil0`" in text_of(**{**CONTAINED, "until_accepted": True})
    assert "after 1 failure:" in text_of(**{**CONTAINED, "failures": 1})


def test_an_anvil_that_was_wanted_back_says_until_when() -> None:
    until = at(700)
    told = f"no ritual takes it until {until.astimezone():%Y-%m-%d %H:%M:%S}"
    assert text_of(reclaimed_until=until, reclaim_why="demo") == f"anvil0 is free; wanted back (demo): {told}"
    assert text_of(reclaimed_until=until, reclaim_why="").endswith(f"; wanted back: {told}")
    assert text_of(**CONTAINED, reclaimed_until=until, reclaim_why="").endswith(told)


@pytest.mark.parametrize(
    ("seen", "anvil", "well", "told"),
    [
        (Seen(True, ("base", "scribe@a")), row(), True, "serves base, scribe@a"),
        (Seen(True, ("base",)), row(**HELD), True, "serves base"),
        (Seen(True), row(), True, f"answers at {WHERE}"),
        (Seen(False), row(), False, f"does not answer at {WHERE}"),
        (Seen(False), None, False, f"does not answer at {WHERE}"),
        (Seen(False), row(**HELD), True, "suspended while ritual 6cb89406 holds anvil0"),
        (Seen(True, ("base",), "training"), row(**HELD), True, "holds anvil0 (admits nobody: training)"),
        (Seen(True, ("base",), "training"), row(), False, "answers, but admits nobody: training"),
        (Seen(False), row(open_fence=7), False, "; the orchestrator brings it back"),
        (Seen(True, ("base",), "starting"), row(open_fence=7), False, "nobody: starting; the orchestrator brings it back"),
    ],
)  # fmt: skip
def test_a_rune_serves_or_says_why_not(seen: Seen, anvil: dict[str, Any] | None, well: bool, told: str) -> None:
    found = rune_finding("rune", WHERE, seen, "anvil0", anvil)
    assert found.well is well and found.text.endswith(told)


@pytest.mark.parametrize("width", [80, 120])
def test_the_status_keeps_its_columns_however_long_a_reason_is(width: int) -> None:
    contained = anvil_finding("anvil large", "large", row(**{**CONTAINED, "contained": "rune reasoner is stuck: " * 9}))
    findings = (
        rune_finding("rune reasoner", WHERE, Seen(False), "large", row()),
        contained,
    )
    under_way = ritual("harvested", 25, interruption={"reason": "demo", "asked": True})
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(render(Standing((Finding("postgres", True, "answers"),), {}, findings, (under_way,))))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(len(line) for line in lines) <= width
    starts = [line[:3] for line in lines[: lines.index("")]]
    assert starts[:3] == ["✓  ", "✗  ", "✗  "] and set(starts[3:]) == {"   "}
    assert all(line.startswith(" " * 16) for line in lines[3 : lines.index("")]), "it goes on in its own column"
    assert "interrupted" in lines[-1]


class Rune(BaseHTTPRequestHandler):
    """Answers what the test says, 404 for everything else."""

    answers: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path, (404, {}))
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Rune)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


MODELS = (200, {"data": [{"id": "scribe@a"}, {"id": "base"}]})
OPEN = (200, {"state": "open", "reason": None})
CLOSED = (200, {"state": "closed", "since": "12:00", "reason": "training scribe"})


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ({"/v1/models": MODELS, "/soulforge/gate": OPEN}, Seen(True, ("base", "scribe@a"))),
        ({"/v1/models": MODELS, "/soulforge/gate": CLOSED}, Seen(True, ("base", "scribe@a"), "closed since 12:00: training scribe")),
        ({"/v1/models": MODELS}, Seen(True, ("base", "scribe@a"))),
        ({"/v1/models": MODELS, "/is_paused": (200, {"is_paused": True})}, Seen(True, ("base", "scribe@a"), PAUSED)),
        ({"/v1/models": MODELS, "/soulforge/gate": (500, {})}, Seen(True, ("base", "scribe@a"))),
        ({"/v1/models": (200, ["odd"]), "/ready": (200, {})}, Seen(True)),
        ({"/ready": (200, {})}, Seen(True)),
        ({"/ready": (503, {})}, Seen(False)),
        ({}, Seen(False)),
    ],
)  # fmt: skip
async def test_a_rune_is_seen_as_it_answers(answers: dict[str, Any], seen: Seen, url: str) -> None:
    Rune.answers = answers
    assert await see(url, RuneConfig(health="/ready")) == seen


async def test_a_rune_that_is_away_is_seen_as_away() -> None:
    assert await see("http://127.0.0.1:1", RuneConfig()) == Seen(False)


def test_a_demand_says_what_it_interrupts_and_until_when() -> None:
    held, free, returning = (demanded("anvil0", row(**values), 600) for values in (HELD, {}, {"open_fence": 7}))
    assert "ritual 6cb89406 (scribe) is interrupted at attempt 2" in held[0]
    assert free[0] == "nothing holds anvil0: its inference stays as it is"
    assert "on the way back" in returning[0]
    assert held[1] == f"no ritual takes it until {at(700).astimezone():%Y-%m-%d %H:%M:%S} (10 m 00 s)"


def test_a_second_demand_never_shortens_the_first() -> None:
    assert demanded("anvil0", row(reclaimed_until=at(7300)), 600)[1].endswith("(2 h 00 m)")
    assert demanded("anvil0", row(reclaimed_until=at(160)), 600)[1].endswith("(10 m 00 s)")


def test_on_the_way_back_it_is_said_what_goes_on() -> None:
    def told(step: str | None, part: str = "", released: bool = False) -> str:
        return doing({"released_at": at(5) if released else None, "step": step, "part": part})

    assert told(None) == told("take-back").removesuffix(" (take-back)") == "the job saves its checkpoint and ends"
    assert told("drain", "rune") == "the evacuation is given up (drain rune)"
    assert told("answer", "rune", released=True) == "inference comes back (answer rune)"
    restored = {"restored_at": at(42), "seconds_without_inference": 90.0}
    assert back("anvil0", restored, at(0)) == "inference on anvil0 is back after 42 s; it was away for 1 m 30 s"
