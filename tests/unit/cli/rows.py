"""Rows of the ledger as `soulforge` reads them, made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from deploy.cli.queries.rituals import ListedRitual, Snapshot
from services.orchestrator import views as orchestrator
from services.orchestrator.views import AnvilStatus, Handover, HandoverStep, RecordedDecision, Step
from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted, GpuRestored
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterAwakened, AdapterRegistered
from shared.contracts.ritual import State
from shared.contracts.verify import AdapterBanished, AdapterVerified, Verdict
from shared.ritual.views import RecordedFact, RitualStatus
from tests.support.facts import TRAINING

RITUAL = UUID("6cb89406-a5da-5a31-a79c-4983e87f3f29")
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SCORE = {"right": 29, "n": 37, "share": 0.784, "interval": {"low": 0.628, "high": 0.886}}
_VERDICT: dict[str, Any] = {
    "decision": "promote",
    "reasons": ["The target improved.", "Base logic is non-inferior."],
    "suites_state": "intact",
    "target_state": "learned",
    "target": {
        "metric": "rule",
        "items": 37,
        "sessions": 9,
        "base": {**SCORE, "right": 0, "share": 0.0, "interval": {"low": 0.0, "high": 0.094}},
        "candidate": SCORE,
        "rule_gain": {"mean": 0.784, "low": 0.675, "high": 0.892},
        "nll_base": 2.52,
        "nll_candidate": 1.008,
        "nll_gain": {"mean": 1.512, "low": 1.483, "high": 1.54},
    },
    "suites": {
        "base-logic": {
            "state": "intact",
            "policy": {"margin": 0.03},
            "digest": "sha256:s",
            "items": 360,
            "base": {**SCORE, "n": 360, "share": 0.725},
            "candidate": {**SCORE, "n": 360, "share": 0.719},
            "drop": 0.0056,
            "drop_low": -0.0019,
            "drop_high": 0.0166,
            "minimum_detectable_drop": 0.0098,
            "lost": ["a", "b"],
            "won": ["c"],
            "kinds": [],
        }
    },
    "policy": {"confidence": 0.95, "min_gain": 0.05},
}
VERDICT = Verdict.model_validate(_VERDICT)

NAMED: dict[str, Any] = {"ritual": RITUAL, "persona": "scribe"}
COUNTS: dict[str, Any] = {"train": 155, "dev": 15, "held_out": 37, "seen": 243, "excluded": {"revoked": 5}}
JUDGED: dict[str, Any] = {"adapter": "sha256:a", "reasons": VERDICT.reasons, "verdict": VERDICT, "results": "/r"} | {
    "evidence": "/e",
    "evidence_digest": "sha256:e",
}
FORGED: dict[str, Any] = {"adapter": "sha256:a", "base": "sha256:b", "path": "/x", "recipe": "default", "fence": 1}

HARVESTED = KarmaHarvested(**NAMED, manifest="sha256:m", holdout="sha256:h", **COUNTS)
REGISTERED = AdapterRegistered(**NAMED, adapter="sha256:a", version="scribe@a", bundle="/crypt/a")
AWAKENED = AdapterAwakened(**NAMED, adapter="sha256:a", version="scribe@a", alias="scribe", probes=3)


def evacuated(**values: Any) -> GpuEvacuated:
    found = {"anvil": "anvil0", "fence": 1, "memory_before": 3 * 1024**3, "memory_after": 0, "device": "cpu"}
    return GpuEvacuated(**NAMED, **{**found, **values})


def restored(**values: Any) -> GpuRestored:
    return GpuRestored(**NAMED, **{"anvil": "anvil0", "seconds_without_inference": 21.5, **values})


def interrupted(reason: str = "lease lost", asked: bool = False) -> GpuInterrupted:
    return GpuInterrupted(**NAMED, reason=reason, asked=asked)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def ritual(state: str, entered_s: float = 0, ended_s: float | None = None, **values: Any) -> RitualStatus:
    return RitualStatus(**_ritual(state, entered_s, ended_s, values))


def listed(state: str, entered_s: float = 0, ended_s: float | None = None, **values: Any) -> ListedRitual:
    return ListedRitual(
        **{
            **_ritual(state, entered_s, ended_s, {}),
            "interruption": None,
            "seconds_without_inference": None,
            **values,
        }
    )


def _ritual(state: str, entered_s: float, ended_s: float | None, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": RITUAL,
        "persona": "scribe",
        "intent_body": {"persona": "scribe", "why": "it is time"},
        "priority": 5,
        "state": State(state),
        "attempt": 1,
        "trace_id": "6cb89406a5da5a31a79c4983e87f3f29",
        "cancel_requested_at": None,
        "paused_at": None,
        "paused_why": None,
        "created_at": START,
        "entered_at": at(entered_s),
        "ended_at": None if ended_s is None else at(ended_s),
        "now": at(100),
        **values,
    }


def recorded(fact: Fact, move: str, stated_s: float, started_s: float | None = None, attempt: int = 1) -> RecordedFact:
    """`move` is "before>after"."""
    fact = fact.model_copy(update={"attempt": attempt})
    started = at(stated_s - 1 if started_s is None else started_s)
    before, after = move.split(">")
    return RecordedFact(fact, "someone", before, after, started, at(stated_s))


def snapshot(
    row: RitualStatus,
    facts: list[RecordedFact],
    hand_overs: list[Handover] | None = None,
    decision: RecordedDecision | None = None,
) -> Snapshot:
    return Snapshot(row, tuple(facts), tuple(hand_overs or ()), decision)


def hand_over(**values: Any) -> Handover:
    times = {
        "began_at": at(10),
        "suspended_at": at(11),
        "evacuated_at": at(14),
        "released_at": at(30),
        "restored_at": at(32.5),
    }
    memory = {"memory_before": 3 * 1024**3, "memory_after": 0, "memory_restored": None}
    probes = {"probes_before": None, "probes_after": None}
    seconds = {"seconds_without_inference": 21.5, "expected_s": None}
    found = {"anvil": "anvil0", "fence": 1, "attempt": 1, **times, **memory, **probes, **seconds, **values}
    return Handover(**{**found, "steps": tuple(found.get("steps", ()))})


def anvil(**values: Any) -> AnvilStatus:
    """An anvil; free without values."""
    return AnvilStatus(**{"name": "anvil0", "now": at(100), **values})


def step(
    name: str, began_s: float, ended_s: float | None = None, part: str = "", tries: int = 1, **detail: Any
) -> HandoverStep:
    return HandoverStep(Step(name), part, at(began_s), None if ended_s is None else at(ended_s), tries, detail)


STEPS = [
    step("announce", 10, 10.2, memory=3 * 1024**3),
    step("hold", 10.2, 10.3, "thumbnails"),
    step("drain-queue", 10.3, 10.9, "thumbnails"),
    step("close", 11, 11.1, "rune", closed=True),
    step("drain", 11.1, 12.4, "rune", drained=3, aborted=1),
    step("probe", 12.4, 12.8, models=2),
    step("stop", 12.8, 13.5, "rune", tries=2, manner="stop"),
    step("prove", 13.5, 13.9, memory=0),
    step("hand-over", 13.9, 14),
    step("take-back", 30, 30.1),
    step("start", 30.1, 30.2, "rune"),
    step("answer", 30.2, 31.5, "rune"),
    step("load", 31.5, 31.8, "rune", models=2, missing=0),
    step("compare", 31.8, 32.2, "rune", equal=True, missing=0),
    step("open", 32.2, 32.3, "rune"),
    step("release", 32.3, 32.4, "thumbnails"),
    step("resume", 32.4, 32.5),
]
ANSWERS = {"rune": {"base": "An anvil.", "scribe@a": "A hammer."}}


def receipt(**values: Any) -> Handover:
    """A whole hand-over with every step."""
    found = {"steps": STEPS, "probes_before": ANSWERS, "probes_after": ANSWERS, "memory_restored": 3 * 1024**3}
    return hand_over(**{**found, "expected_s": 30.0, **values})


def decision(verdict: str, reason: str, decided_s: float = 2, **measures: Any) -> RecordedDecision:
    return RecordedDecision(orchestrator.Verdict(verdict), reason, None, measures, at(decided_s))


WHOLE = [
    recorded(HARVESTED, "intended>harvested", 1),
    recorded(evacuated(), "harvested>evacuated", 14, started_s=10),
    recorded(AdapterForged(**NAMED, **FORGED, training=TRAINING), "evacuated>forged", 20, started_s=14),
    recorded(AdapterVerified(**NAMED, **JUDGED, decision="promote"), "forged>verified", 30, started_s=20),
    recorded(REGISTERED, "verified>registered", 31),
    recorded(restored(), "registered>registered", 32.5, started_s=30),
    recorded(AWAKENED, "registered>awakened", 33),
]
BANISHED = AdapterBanished(**NAMED, **{**JUDGED, "reasons": ("Too little.", "Broken.")}, decision="banish")
