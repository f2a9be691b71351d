"""Made-up measurements of candidates: with no effect, or with a gain of a known size, on sessions that depend on themselves.

A session has its own difficulty, and its own luck with either arm, the same for all of its items: what makes a test that
counts items, in place of sessions, err far too often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from services.verifier.results import HeldOut, HeldOutAnswer, ItemScore, Results, SuiteAsked
from shared.contracts.verify import Arm

SUITE = "base-logic"
SUITE_ITEMS, SUITE_SHARE, FLIPS = 600, 0.85, 0.02
DIFFICULTY, LUCK = 1.0, 0.8  # standard deviations of a session, in logits
NLL, NLL_LUCK = 2.0, 0.2


@dataclass
class Holdout:
    """A sealed holdout and what the base answers to it, with a suite of independent items."""

    chance: Random
    sessions: int = 20
    items: int = 2
    difficulties: list[float] = field(init=False)
    base: list[list[bool]] = field(init=False)
    able: list[bool] = field(init=False)
    suite: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.difficulties = [self.chance.gauss(-1.0, DIFFICULTY) for _ in range(self.sessions)]
        self.base = [self._answers(difficulty) for difficulty in self.difficulties]
        self.able = [self.chance.random() < SUITE_SHARE for _ in range(SUITE_ITEMS)]
        self.suite = self._measure()

    def _answers(self, difficulty: float) -> list[bool]:
        share = 1 / (1 + math.exp(-(difficulty + self.chance.gauss(0, LUCK))))
        return [self.chance.random() < share for _ in range(self.items)]

    def _measure(self) -> list[bool]:
        """The suite as an engine measures it, whose noise flips answers."""
        return [right != (self.chance.random() < FLIPS) for right in self.able]

    def candidate(self, gain: float = 0.0) -> Results:
        """The measurements of a candidate that turns this share of the wrong answers to the holdout into right ones."""
        rows = []
        for session, base in enumerate(self.base):
            lucky = self.chance.gauss(0, NLL_LUCK)
            answers = [right or self.chance.random() < gain for right in self._answers(self.difficulties[session])]
            for item, (before, after) in enumerate(zip(base, answers, strict=True)):
                rows.append(_row(f"s{session}", f"{session}-{item}", before, after, lucky + gain))
        return measured(_paired(self.suite, self._measure()), rows)

    def again(self) -> Results:
        """The measurements of the base as its own candidate."""
        rows = [
            _row(f"s{session}", f"{session}-{item}", right, right, 0.0)
            for session, base in enumerate(self.base)
            for item, right in enumerate(base)
        ]
        repeated = [_score(Arm.BASE, item, right) for item, right in enumerate(self._measure())]
        return measured(_paired(self.suite, self.suite), rows, repeated)


def measured(items: list[ItemScore], rows: list[HeldOut], repeated: list[ItemScore] | None = None) -> Results:
    count = len({score.item for score in items})
    return Results(
        base_digest="base",
        arms={Arm.BASE: None, Arm.CANDIDATE: "candidate"},
        holdout_digest="holdout",
        engine="simulated",
        seed=0,
        base_scores="measured",
        suites={SUITE: SuiteAsked(digest="suite", version=1, items=count, chance={"choice": 0.25})},
        items=tuple(items),
        holdout=tuple(rows),
        probes=(),
        repeated=tuple(repeated or ()),
    )


def _paired(base: list[bool], candidate: list[bool]) -> list[ItemScore]:
    return [
        _score(arm, item, right)
        for arm, answers in ((Arm.BASE, base), (Arm.CANDIDATE, candidate))
        for item, right in enumerate(answers)
    ]


def _score(arm: Arm, item: int, right: bool) -> ItemScore:
    name = f"i{item}"
    return ItemScore(suite=SUITE, kind="choice", item=name, session=name, arm=arm, correct=right)


def _row(session: str, name: str, before: bool, after: bool, gain: float) -> HeldOut:
    arms = {
        Arm.BASE: HeldOutAnswer(nll=NLL, passed=before, answer=""),
        Arm.CANDIDATE: HeldOutAnswer(nll=NLL - gain, passed=after, answer=""),
    }
    return HeldOut(id=name, session=session, arms=arms)
