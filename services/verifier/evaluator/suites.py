"""Ask every suite: each arm all of its items, the base only those whose scores are not known from earlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from services.verifier.evaluator import answers, choices, drift, public, style
from services.verifier.evaluator.answers import rendered_item
from services.verifier.evaluator.arms import Arms
from services.verifier.evaluator.report import Report
from services.verifier.results import STYLE, BaseScores, ItemScore, SuiteAsked
from shared.contracts.checks import Checks
from shared.contracts.verify import Arm, Drift
from shared.storage.suites import LoadedSuite

REPEATED = 8  # items of each kind that the base is asked again

Scores = dict[Arm, list[ItemScore]]


@dataclass
class Asked:
    """What was measured: the scores by suite and arm, and which suites' base arm was known."""

    scores: dict[str, Scores] = field(default_factory=dict)
    asked: dict[str, SuiteAsked] = field(default_factory=dict)
    style_rules: int = 0

    @property
    def items(self) -> tuple[ItemScore, ...]:
        return tuple(score for scores in self.scores.values() for found in scores.values() for score in found)


def known_scores(
    path: Path | None, base: str, engine: str, suites: Mapping[str, LoadedSuite]
) -> dict[str, list[ItemScore]]:
    """Earlier scores of the same base by the same engine, of the suites that are unchanged since."""
    if path is None:
        return {}
    try:
        kept = BaseScores.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
    if (kept.base_digest, kept.engine) != (base, engine):
        return {}
    same = {name for name, suite in suites.items() if name in kept.suites and kept.suites[name].digest == suite.digest}
    found = {name: [score for score in kept.items if score.suite == name] for name in same}
    return {name: scores for name, scores in found.items() if len(scores) == suites[name].count}


def ask(
    loaded: Arms,
    arms: Sequence[Arm],
    suites: Mapping[str, LoadedSuite],
    known: Mapping[str, list[ItemScore]],
    rules: Checks,
    seed: int,
    report: Report,
) -> Asked:
    """Ask all suites. `rules` are the persona's own, by which its form is recognised in other answers."""
    found = Asked()
    for name, suite in suites.items():
        scores = {arm: _measured(loaded, arm, suite, known, seed, report) for arm in arms}
        chance = _chance_of(suite)
        found.scores[name] = scores
        found.asked[name] = SuiteAsked(
            digest=suite.digest, version=suite.suite.version, items=suite.count, chance=chance
        )
    for name, suite in suites.items():
        if suite.suite.style_of is not None:
            _add_style(found, name, suite.suite.style_of, rules)
    return found


def count_repeated(suites: Mapping[str, LoadedSuite]) -> int:
    return sum(choices.count(suite, REPEATED) for suite in suites.values() if suite.choices)


def repeat(loaded: Arms, suites: Mapping[str, LoadedSuite], seed: int, report: Report) -> list[ItemScore]:
    """Ask the base some of its choices again. Other items share their batches, and its other scores may be from earlier."""
    with report.span("noise"):
        return [
            score
            for suite in suites.values()
            if suite.choices
            for score in choices.measure(loaded, Arm.BASE, suite, seed, report.advance, REPEATED)
        ]


def measure_drift(loaded: Arms, suites: Mapping[str, LoadedSuite], found: Asked) -> Drift | None:
    """The drift on the suites whose answers are asked for style; None without one."""
    general = sorted({suite.suite.style_of for suite in suites.values() if suite.suite.style_of is not None})
    if not general:
        return None
    items = [item for name in general for tasks in suites[name].answers.values() for item in tasks]
    given = {
        arm: [score.answer or "" for name in general for score in found.scores[name][arm]]
        for arm in found.scores[general[0]]
    }
    return drift.measure(loaded, [rendered_item(loaded.tokenizer, item) for item in items], given)


def _measured(
    loaded: Arms, arm: Arm, suite: LoadedSuite, known: Mapping[str, list[ItemScore]], seed: int, report: Report
) -> list[ItemScore]:
    if arm is Arm.BASE and suite.name in known:
        return known[suite.name]
    with report.span(f"{suite.name}.{arm}"):
        if suite.choices:
            return choices.measure(loaded, arm, suite, seed, report.advance)
        if suite.public:
            return public.measure(loaded, arm, suite, seed, report.advance)
        return answers.measure(loaded, arm, suite, report.advance)


def _chance_of(suite: LoadedSuite) -> dict[str, float]:
    if suite.choices:
        return choices.chance_of(suite)
    return public.chance_of(suite) if suite.public else dict.fromkeys(suite.answers, 0.0)


def _add_style(found: Asked, name: str, of: str, rules: Checks) -> None:
    form = style.own_form(rules, found.scores[of][Arm.BASE])
    found.style_rules = len(form)
    for arm, scores in found.scores[of].items():
        found.scores[name][arm] += style.score_style(name, form, scores)
    asked = found.asked[name]
    found.asked[name] = asked.model_copy(
        update={
            "items": len(found.scores[name][Arm.BASE]),
            "chance": {**asked.chance, STYLE: 0.0},
        }
    )
