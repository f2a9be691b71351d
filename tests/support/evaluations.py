"""What an evaluator measured, made up: the verdict's input without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from services.verifier.results import STYLE, HeldOut, HeldOutAnswer, ItemScore, Prompted, Results, SuiteAsked
from services.verifier.sealed import read_records
from shared.config.settings import PROJECT
from shared.contracts.verify import Arm
from shared.storage.suites import load_suites
from tests.support.probes import PROMPTS, probe

SUITE = "base-logic"


def items_of(kind: str, n: int, lost: int = 0, won: int = 0, wrong: int = 0, suite: str = SUITE) -> list[ItemScore]:
    """`n` pairs: `lost` base only, `won` candidate only, `wrong` neither, the rest both."""
    found = []
    for number in range(n):
        base = not lost <= number < lost + won + wrong
        candidate = number >= lost and not lost + won <= number < lost + won + wrong
        for arm, right in ((Arm.BASE, base), (Arm.CANDIDATE, candidate)):
            found.append(scored(kind, f"{kind}-{number}", arm, right, suite))
    return found


def scored(kind: str, item: str, arm: Arm, right: bool, suite: str = SUITE) -> ItemScore:
    margin = 1.0 if right else -1.0
    return ItemScore(suite=suite, kind=kind, item=item, session=item, arm=arm, correct=right, margin=margin)


def held_out(
    number: int, base: bool | None, candidate: bool | None, nll_gain: float = 0.0, session: str = ""
) -> HeldOut:
    return HeldOut(
        id=f"h{number:03}",
        session=session or f"s{number // 2}",
        arms={
            Arm.BASE: HeldOutAnswer(nll=2.0, passed=base, answer=""),
            Arm.CANDIDATE: HeldOutAnswer(nll=2.0 - nll_gain, passed=candidate, answer=""),
        },
    )


def prompted(row: HeldOut, base: bool, candidate: bool = True, saved: int = 60) -> HeldOut:
    """The item, asked with its system prompt too."""
    return row.model_copy(update={"prompted": Prompted(base=base, candidate=candidate), "tokens_saved": saved})


def results(items: Sequence[ItemScore], holdout: Sequence[HeldOut], chance: float = 0.5) -> Results:
    return Results(
        base_digest="sha256:b",
        arms={Arm.BASE: None, Arm.CANDIDATE: "sha256:a"},
        holdout_digest="sha256:h",
        engine="test",
        seed=0,
        base_scores="measured",
        suites={suite: asked(suite, items, chance) for suite in sorted({item.suite for item in items})},
        items=tuple(items),
        holdout=tuple(holdout),
        probes=tuple(probe(prompt) for prompt in PROMPTS),
    )


def asked(suite: str, items: Sequence[ItemScore], chance: float) -> SuiteAsked:
    own = [item for item in items if item.suite == suite]
    kinds = sorted({item.kind for item in own})
    count = len({(item.kind, item.item) for item in own})
    return SuiteAsked(digest="sha256:s", version=1, items=count, chance=dict.fromkeys(kinds, chance))


@cache
def promoted() -> Results:
    """Results that promote, with every item of the shipped suites."""
    suites = load_suites(PROJECT / "services" / "verifier" / "suites")
    own = [
        (name, kind, item.id) for name, suite in suites.items() for kind, tasks in suite.items.items() for item in tasks
    ]
    style = [(name, STYLE, item) for name, suite in suites.items() for of, _, item in own if of == suite.suite.style_of]
    items = [
        scored(kind, item, arm, True, name).model_copy(update={"answer": ""})
        for name, kind, item in own + style
        for arm in (Arm.BASE, Arm.CANDIDATE)
    ]
    found = results(items, LEARNED)
    digests = {name: found.suites[name].model_copy(update={"digest": suite.digest}) for name, suite in suites.items()}
    return found.model_copy(update={"suites": digests, "style_rules": 3})


def answered(job: Mapping[str, Any], found: Results | None = None) -> Results:
    """Results that promote the candidate of an evaluator's job, on its holdout; a champion does as well."""
    found, champion = found or promoted(), job.get("champion_digest")
    arms = {Arm.BASE: None, Arm.CANDIDATE: job["adapter_digest"]} | ({Arm.CHAMPION: champion} if champion else {})
    also = [
        score.model_copy(update={"arm": Arm.CHAMPION})
        for score in found.items
        if champion and score.arm is Arm.CANDIDATE
    ]
    rows = []
    for number, (key, record) in enumerate(sorted(read_records(Path(job["holdout"])).items())):
        row = held_out(number, False, True, session=record.session)
        row = prompted(row, base=False) if record.has_prompt else row
        answers = row.arms | ({Arm.CHAMPION: row.arms[Arm.CANDIDATE]} if champion else {})
        rows.append(row.model_copy(update={"id": key, "arms": answers}))
    return found.model_copy(
        update={
            "base_digest": job["base_digest"],
            "holdout_digest": job["holdout_digest"],
            "arms": arms,
            "items": (*found.items, *also),
            "holdout": tuple(rows),
        }
    )


# Together they promote.
INTACT = items_of("words", 600, lost=6, won=4)
LEARNED = [held_out(n, False, n % 4 > 0) for n in range(40)]
