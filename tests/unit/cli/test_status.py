"""The status of anvils and runes, and what `reclaim` shows, from made-up rows and a small server for a rune."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from deploy.cli.commands.anvil import activity, effect_of
from deploy.cli.console import SafeConsole
from deploy.cli.queries.stack import RuneStatus, StackStatus, get_rune, list_jobs
from deploy.cli.views.status import anvil_finding, finding_line, rune_finding, status_view
from deploy.embedded.preflight import Finding
from services.orchestrator.steps import Step
from services.orchestrator.views import AnvilStatus, Containment, Holder, Reclaim, Restoration
from shared.config.model import RuneConfig
from shared.contracts.evacuate import GpuInterrupted
from shared.drivers.inference.admission import Gate
from shared.drivers.inference.vllm import Vllm
from shared.runtime.presence import Isolation, JobIsolation
from tests.unit.cli.rows import NAMED, RITUAL, anvil, at, listed

HOLDER = Holder(RITUAL, "scribe", attempt=2, fence=7, live=True)
HELD: dict[str, Any] = {"holder": HOLDER, "open_fence": 7}
CONTAINED = Containment("rune small is stuck.", 5, until_accepted=False, since=at(10))
WHERE = "/home/run/engines/rune/engine.sock"
NOWHERE = "http://127.0.0.1:1"


def text_of(**values: Any) -> str:
    return anvil_finding("anvil", anvil(**values)).text


def test_an_anvil_is_free_or_held_and_both_are_ok() -> None:
    assert anvil_finding("anvil", anvil()) == Finding("anvil", True, "anvil0 is free")
    held = anvil_finding("anvil", anvil(**HELD))
    assert held == Finding("anvil", True, "anvil0 is held by ritual 6cb89406 (scribe), attempt 2, fence 7")
    assert not anvil_finding("anvil", anvil(holder=replace(HOLDER, live=False))).ok


def test_a_contained_anvil_is_a_finding_with_its_reason_and_what_ends_it() -> None:
    found = anvil_finding("anvil", anvil(containment=CONTAINED))
    assert not found.ok
    assert found.text == (
        "anvil0 is contained for 1 m 30 s, after 5 failures: rune small is stuck; no ritual takes it until it serves again"
    )
    assert "`soulforge accept anvil0`" in text_of(containment=replace(CONTAINED, until_accepted=True))
    assert "after 1 failure:" in text_of(containment=replace(CONTAINED, failures=1))


def test_a_reclaimed_anvil_shows_until_when() -> None:
    until = at(700)
    text = f"no ritual takes it until {until.astimezone():%Y-%m-%d %H:%M:%S}"
    assert text_of(reclaim=Reclaim("demo", until)) == f"anvil0 is free; reclaimed (demo): {text}"
    assert text_of(reclaim=Reclaim("", until)).endswith(f"; reclaimed: {text}")
    assert text_of(containment=CONTAINED, reclaim=Reclaim("", until)).endswith(text)


@pytest.mark.parametrize(
    ("rune", "row", "ok", "text"),
    [
        (RuneStatus(True, ("base", "scribe@a")), anvil(), True, "serves base, scribe@a"),
        (RuneStatus(True, ("base",)), anvil(**HELD), True, "serves base"),
        (RuneStatus(True), anvil(), True, f"answers at {WHERE}"),
        (RuneStatus(False), anvil(), False, f"does not answer at {WHERE}"),
        (RuneStatus(False), None, False, f"does not answer at {WHERE}"),
        (RuneStatus(False), anvil(**HELD), True, "suspended while ritual 6cb89406 holds anvil0"),
        (RuneStatus(True, ("base",), "training"), anvil(**HELD), True, "holds anvil0 (admits no requests: training)"),
        (RuneStatus(True, ("base",), "training"), anvil(), False, "answers, but admits no requests: training"),
        (RuneStatus(False), anvil(open_fence=7), False, "; the orchestrator brings it back"),
        (RuneStatus(True, ("base",), "starting"), anvil(open_fence=7), False, "no requests: starting; the orchestrator brings it back"),
    ],
)  # fmt: skip
def test_a_rune_serves_or_says_why_not(rune: RuneStatus, row: AnvilStatus | None, ok: bool, text: str) -> None:
    found = rune_finding("rune", WHERE, rune, "anvil0", row)
    assert found.ok is ok and found.text.endswith(text)


@pytest.mark.parametrize("width", [80, 120])
def test_the_status_keeps_its_columns_however_long_a_reason_is(width: int) -> None:
    stuck = replace(CONTAINED, reason="rune reasoner is stuck: " * 9)
    findings = (
        rune_finding("rune reasoner", WHERE, RuneStatus(False), "large", anvil(name="large")),
        anvil_finding("anvil large", anvil(name="large", containment=stuck)),
    )
    under_way = listed("harvested", 25, interruption=GpuInterrupted(**NAMED, reason="demo", asked=True))
    status = StackStatus((Finding("postgres", True, "answers"),), None, {}, None, (under_way,), {})
    console = SafeConsole(file=io.StringIO(), width=width, record=True)
    console.print(status_view(status, findings))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(len(line) for line in lines) <= width
    starts = [line[:3] for line in lines[: lines.index("")]]
    assert starts[:3] == ["✓  ", "✗  ", "✗  "] and set(starts[3:]) == {"   "}
    assert all(line.startswith(" " * 16) for line in lines[3 : lines.index("")]), "it goes on in its own column"
    assert "interrupted" in lines[-1]


def jobs_of(*last: str, **services: JobIsolation) -> list[Finding]:
    return list(list_jobs(services, last))


ISOLATED = JobIsolation(Isolation.ISOLATED)
REFUSED = JobIsolation(Isolation.REFUSED, "install bubblewrap")
UNISOLATED = JobIsolation(Isolation.UNISOLATED, "no namespaces")


def test_the_status_shows_whether_jobs_are_isolated_and_by_what() -> None:
    assert jobs_of() == []
    assert jobs_of(forge=ISOLATED, verifier=ISOLATED) == [Finding("jobs", True, "isolated")]
    (held,) = jobs_of("network", "filesystem", "pid", forge=ISOLATED)
    assert held.text == "isolated; the last one had: network, filesystem, pid" and not held.warning
    (refused,) = jobs_of(forge=REFUSED, verifier=REFUSED)
    assert not refused.ok and refused.text.startswith("forge and verifier cannot start jobs")
    assert not jobs_of(forge=ISOLATED, verifier=REFUSED)[0].ok


def test_unisolated_jobs_are_marked_in_the_status() -> None:
    (found,) = jobs_of("network", "filesystem", forge=UNISOLATED, verifier=ISOLATED)
    assert found.ok and found.warning
    shown = finding_line(found).plain
    assert shown.startswith("!  jobs           jobs run UNISOLATED") and "no namespaces" in shown


class Rune(BaseHTTPRequestHandler):
    """Answers what the test sets, 404 for everything else."""

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
OPEN = (200, {"state": "open", "reason": None, "in_flight": 0})
CLOSED = (200, {"state": "closed", "since": "12:00", "reason": "training scribe", "in_flight": 0})


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ({"/v1/models": MODELS, "/engines/rune": OPEN}, RuneStatus(True, ("base", "scribe@a"))),
        ({"/v1/models": MODELS, "/engines/rune": CLOSED}, RuneStatus(True, ("base", "scribe@a"), "closed since 12:00: training scribe")),
        ({"/v1/models": MODELS}, RuneStatus(True, ("base", "scribe@a"))),
        ({"/v1/models": MODELS, "/engines/rune": (500, {})}, RuneStatus(True, ("base", "scribe@a"))),
        ({"/v1/models": (200, ["odd"]), "/ready": (200, {})}, RuneStatus(True)),
        ({"/ready": (200, {})}, RuneStatus(True)),
        ({"/ready": (503, {})}, RuneStatus(False)),
        ({}, RuneStatus(False)),
    ],
)  # fmt: skip
async def test_a_rune_has_the_status_that_it_answers(answers: dict[str, Any], status: RuneStatus, url: str) -> None:
    Rune.answers = answers
    assert await get_rune(Vllm(url), Gate(url, "rune"), url, RuneConfig(health="/ready")) == status


async def test_a_rune_that_is_away_does_not_answer() -> None:
    assert await get_rune(Vllm(NOWHERE), Gate(NOWHERE, "rune"), NOWHERE, RuneConfig()) == RuneStatus(False)


def test_a_reclaim_shows_what_it_interrupts_and_until_when() -> None:
    held, free, returning = (effect_of(anvil(**values), 600) for values in (HELD, {}, {"open_fence": 7}))
    assert "ritual 6cb89406 (scribe) is interrupted at attempt 2" in held[0]
    assert free[0] == "no ritual holds anvil0: its inference stays as it is"
    assert "on the way back" in returning[0]
    assert held[1] == f"no ritual takes it until {at(700).astimezone():%Y-%m-%d %H:%M:%S} (10 m 00 s)"


def test_the_newest_reclaim_counts() -> None:
    assert effect_of(anvil(reclaim=Reclaim("", at(7300))), 600)[1].endswith("(10 m 00 s)")
    assert effect_of(anvil(reclaim=Reclaim("", at(7300))), 0)[1] == "rituals may take it again now"


def test_while_inference_comes_back_it_is_shown_what_goes_on() -> None:
    def text(step: str | None, part: str = "", released: bool = False) -> str:
        return activity(
            Restoration(at(9), at(5) if released else None, None, None, Step(step) if step else None, part, None)
        )

    assert text(None) == text("take-back").removesuffix(" (take-back)") == "the job saves its checkpoint and ends"
    assert text("drain", "rune") == "the evacuation is given up (drain rune)"
    assert text("answer", "rune", released=True) == "inference comes back (answer rune)"
