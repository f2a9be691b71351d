"""A ritual's report from made-up rows: complete, stable, and without what is big."""

from __future__ import annotations

import json

import pytest

from deploy.cli.views.report import RitualReport, build_report
from shared.contracts.evacuate import GpuRefused
from shared.contracts.forge import AdapterFailed
from shared.contracts.harvest import KarmaRefused
from shared.contracts.intent import RitualCancelled
from shared.contracts.message import Fact
from tests.unit.cli.rows import (
    BANISHED,
    NAMED,
    RITUAL,
    VERDICT,
    WHOLE,
    at,
    decision,
    hand_over,
    interrupted,
    receipt,
    recorded,
    restored,
    ritual,
    snapshot,
)

PHOENIX = "http://127.0.0.1:7603"
SHAPE = [
    "attempt",
    "cancel_requested_at",
    "contradictions",
    "counts",
    "created_at",
    "decision",
    "digests",
    "ended_at",
    "errors",
    "excluded",
    "hand_overs",
    "intent",
    "interrupted",
    "paused_at",
    "paused_why",
    "persona",
    "priority",
    "reason",
    "reasons",
    "refines",
    "ritual",
    "scores",
    "seconds",
    "seconds_without_inference",
    "state",
    "states",
    "suggested",
    "tipping",
    "trace_id",
    "trace_url",
    "unisolated",
    "version",
]


def whole() -> RitualReport:
    found = snapshot(ritual("awakened", 33, 33), WHOLE, [hand_over()])
    return build_report(found, {"revoked": 5, "duplicate": 1}, PHOENIX)


def test_the_shape_of_the_document_is_this() -> None:
    assert sorted(json.loads(whole().model_dump_json())) == SHAPE


def test_a_whole_ritual_is_reported() -> None:
    report = whole()
    assert (report.ritual, report.state, report.reason, report.seconds) == (RITUAL, "awakened", None, 33.0)
    assert report.digests == {"manifest": "sha256:m", "holdout": "sha256:h", "adapter": "sha256:a", "base": "sha256:b"}
    assert report.counts == {"train": 155, "dev": 15, "held_out": 37, "seen": 243, "excluded": 6}
    assert report.decision == "promote" and report.scores == VERDICT
    assert report.seconds_without_inference == 21.5 and report.hand_overs[0].memory_after == 0
    assert report.version == "scribe@a"
    assert report.trace_url == f"{PHOENIX}/redirects/traces/6cb89406a5da5a31a79c4983e87f3f29"
    assert [state.state for state in report.states][-2:] == ["registered", "awakened"]


def test_spans_are_left_out() -> None:
    assert "spans" not in whole().model_dump_json()


def test_a_ritual_that_was_only_intended_has_a_report() -> None:
    report = build_report(snapshot(ritual("intended"), []), {}, PHOENIX)
    assert (report.digests, report.counts, report.decision, report.seconds_without_inference) == ({}, {}, None, None)
    assert report.seconds == 100.0, "an open ritual counts to now"


@pytest.mark.parametrize(
    ("state", "fact", "reason"),
    [
        ("refused", KarmaRefused(**NAMED, reason="3 records, 20 needed", seen=3), "3 records, 20 needed"),
        ("refused", GpuRefused(**NAMED, anvil="anvil0", reason="not free"), "not free"),
        ("failed", AdapterFailed(**NAMED, reason="out of memory"), "out of memory"),
        ("cancelled", RitualCancelled(**NAMED, why="wrong persona"), "wrong persona"),
        ("cancelled", RitualCancelled(**NAMED), None),
        ("banished", BANISHED, "Too little. Broken."),
    ],
)
def test_an_end_without_an_adapter_gives_its_reason(state: str, fact: Fact, reason: str | None) -> None:
    ended = [recorded(fact, f"intended>{state}", 1), recorded(restored(), f"{state}>{state}", 2)]
    assert build_report(snapshot(ritual(state, 1, 1), ended), {}, PHOENIX).reason == reason


def test_seconds_without_inference_add_up_over_attempts() -> None:
    rows = [
        hand_over(),
        hand_over(fence=2, seconds_without_inference=8.5),
        hand_over(fence=3, seconds_without_inference=None, restored_at=None),
    ]
    report = build_report(snapshot(ritual("harvested", 40), [], rows), {}, PHOENIX)
    assert report.seconds_without_inference == 30.0
    assert report.hand_overs[2].restored_at is None and report.hand_overs[0].began_at == at(10)


def test_a_receipt_in_json_has_all_that_it_had_and_steps_parts_and_probes_besides() -> None:
    report = build_report(snapshot(ritual("awakened", 33, 33), WHOLE, [receipt()]), {}, PHOENIX)
    found = json.loads(report.model_dump_json())["hand_overs"][0]
    assert found.keys() >= {
        *("anvil", "fence", "attempt", "began_at", "suspended_at", "evacuated_at", "released_at", "restored_at"),
        *("memory_before", "memory_after", "seconds_without_inference"),
    }
    assert found["steps"][4] == {
        "step": "drain",
        "part": "rune",
        "phase": "evacuation",
        "began_at": "2026-11-21T12:00:11.100000Z",
        "ended_at": "2026-11-21T12:00:12.400000Z",
        "seconds": 1.3,
        "tries": 1,
        "detail": {"drained": 3, "aborted": 1},
    }
    assert [phase["seconds"] for phase in found["phases"]] == [4.0, 16.0, 2.5]
    assert (found["drained"], found["aborted"], found["expected_s"]) == (3, 1, 30.0)
    assert (found["memory_restored"], found["probes"]["equal"]) == (3 * 1024**3, True)
    assert found["probes"]["after"] == {"rune": {"base": "An anvil.", "scribe@a": "A hammer."}}


def test_an_interruption_and_the_decision_to_wait_are_reported() -> None:
    lost = recorded(interrupted("wanted back", asked=True), "evacuated>harvested", 25)
    waits = decision("wait", "waits: busy", 26, running=2)
    report = build_report(snapshot(ritual("harvested", 25, attempt=2), [*WHOLE[:2], lost], [], waits), {}, PHOENIX)
    assert report.state == "harvested" and report.reason is None
    assert report.interrupted and report.interrupted.model_dump() == {
        "attempt": 1,
        "at": at(25),
        "reason": "wanted back",
        "asked": True,
    }
    assert report.tipping and (report.tipping.verdict, report.tipping.measures) == ("wait", {"running": 2})
    assert whole().interrupted is None and whole().tipping is None
