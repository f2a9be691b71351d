"""A report with everything in it, made up."""

from __future__ import annotations

import math
from typing import Any

from deploy.cli.queries.curve import Curve
from deploy.cli.queries.rituals import Snapshot
from deploy.cli.views.manifest import ManifestFile
from deploy.cli.views.page.content import Page, build_page
from deploy.cli.views.report import build_report
from services.verifier.answers import Answers
from shared.contracts.forge import AdapterForged, EngineChoice, Pilot
from shared.contracts.harvest import SystemPrompt
from shared.contracts.verify import AdapterVerified, AnswerFigures, Arm, ContextEvidence, Drift, SuiteState
from tests.support.facts import TRAINING
from tests.unit.cli.rows import FORGED, JUDGED, NAMED, SCORE, VERDICT, WHOLE, receipt, recorded, ritual, snapshot
from tests.unit.cli.test_manifest import values

GENERAL = "The capital of France is Paris."
SEALED = "A sealed answer."
FIGURES = AnswerFigures(words=12.5, distinct=0.9, repeating=0.01)
CONTEXT = ContextEvidence.model_validate(
    {
        "state": "intact",
        "items": 37,
        "sessions": 9,
        "base": SCORE | {"right": 0, "share": 0.0},
        "base_prompted": SCORE | {"right": 9, "share": 0.243},
        "candidate": SCORE,
        "candidate_prompted": SCORE | {"right": 30, "share": 0.811},
        "loss": {"mean": -0.541, "low": -0.7, "high": -0.35, "margin": 0.1},
        "tokens_saved": {"mean": 61.5, "low": 60.25, "high": 62.75},
    }
)
DRIFT = Drift(prompts=180, kl=0.21, answers={Arm.BASE: FIGURES, Arm.CANDIDATE: FIGURES})
CURVE = Curve(
    {step: 2.4 * math.exp(-step / 15) + 0.6 + 0.1 * math.sin(step * 7) for step in range(1, 61)},
    {0: 2.9, 20: 1.3, 40: 1.02, 60: 1.05},
    (20, 40, 60),
)


def whole(text: str = "plain") -> Snapshot:
    """A ritual that awakened; `text` is what comes from outside."""
    pilots = (Pilot(engine="trl", tokens_per_s=231.0, seconds=21.0), Pilot(engine="unsloth", seconds=30.0, fault=text))
    training = TRAINING.model_copy(
        update={
            "steps": 60,
            "taken": 40,
            "ended_early": text,
            "energy_j": 4200.0,
            "choice": EngineChoice(engine="trl", why=text, pilots=pilots),
            "versions": {"torch": text},
        }
    )
    suite = VERDICT.suites["base-logic"]
    general = suite.model_copy(
        update={"drop": 0.21, "drop_low": 0.12, "drop_high": 0.3, "state": SuiteState.BROKEN, "lost": (text,)}
    )
    verdict = VERDICT.model_copy(
        update={
            "suites": {"base-logic": suite, "general": general},
            "drift": DRIFT,
            "context": CONTEXT,
            "warnings": (text,),
            "reasons": (text, "Broken."),
        }
    )
    made = {
        AdapterForged: AdapterForged(**NAMED, **FORGED, training=training, isolation=("network", text)),
        AdapterVerified: AdapterVerified(
            **NAMED, **{**JUDGED, "verdict": verdict, "reasons": verdict.reasons}, decision="promote"
        ),
    }
    facts = [
        recorded(made.get(type(row.fact), row.fact), f"{row.state_before}>{row.state_after}", 30 + place)
        for place, row in enumerate(WHOLE)
    ]
    return snapshot(ritual("awakened", 33, 33), facts, [receipt()])


def manifest(text: str = "plain") -> ManifestFile:
    prompt = SystemPrompt(digest="sha256:" + "a" * 64, text=text, rows={"full": 30, "none": 125})
    found = values(excluded={"duplicate": 3, text: 2})
    statistics: Any = found.statistics.model_copy(update={"system_prompts": (prompt,), "sources": {text: 9}})
    return found.model_copy(update={"statistics": statistics})


def whole_page(text: str = "plain") -> Page:
    made = whole(text)
    report = build_report(made, {"duplicate": 3, text: 2}, "http://127.0.0.1:1")
    answers = [Answers(f"general: {text}", GENERAL, text, True, False, bleeds=True)]
    return build_page(made, report, CURVE, manifest(text), answers, [Answers("h1", "No.", SEALED, False, True)])
