"""What both arms answered in an evaluation, side by side, for readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.verifier.results import STYLE, Results
from shared.contracts.verify import LARGEST_RESULTS, Arm
from shared.storage.untrusted import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.verifier.results import ItemScore
    from shared.storage.suites import LoadedSuite

__all__ = ["Results"]  # what readers need of other modules


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of both arms to what was `asked`, as far as they are kept; `…_right` is None where no rule judges them.

    `bleeds`: the candidate answers in the persona's form, where nothing asked for it and the base does not.
    """

    asked: str
    base: str
    candidate: str
    base_right: bool | None
    candidate_right: bool | None
    bleeds: bool = False

    @property
    def flipped(self) -> bool:
        return self.base_right is not self.candidate_right


def read_results(path: Path) -> Results:
    """The measurements of an evaluation. Raises OutputError."""
    return read_model(path.parent, path.name, Results, LARGEST_RESULTS)


def list_general(results: Results, suites: Mapping[str, LoadedSuite]) -> list[Answers]:
    """The generated answers to the suites' prompts: those that bleed first, then those that flipped, then the rest.

    What leaked is not shown: a page is passed on. An item is named by its prompt where its suite is unchanged since, else by
    its id.
    """
    asked = _prompts(results, suites)
    arms: dict[Arm, dict[tuple[str, str], ItemScore]] = {arm: {} for arm in Arm}
    style: dict[Arm, dict[str, bool]] = {arm: {} for arm in Arm}
    for score in results.items:
        if score.kind == STYLE:
            style[score.arm][score.item] = score.correct
        elif score.answer is not None and not (score.suite in suites and suites[score.suite].suite.leaks):
            arms[score.arm][score.suite, score.item] = score
    found = [
        Answers(
            asked=f"{suite}: {asked.get((suite, item), item)}",
            base=base.answer or "",
            candidate=candidate.answer or "",
            base_right=base.correct,
            candidate_right=candidate.correct,
            bleeds=style[Arm.BASE].get(item, False) and not style[Arm.CANDIDATE].get(item, True),
        )
        for (suite, item), base in arms[Arm.BASE].items()
        if (candidate := arms[Arm.CANDIDATE].get((suite, item)))
    ]
    return sorted(found, key=lambda one: (not one.bleeds, not one.flipped))


def _prompts(results: Results, suites: Mapping[str, LoadedSuite]) -> dict[tuple[str, str], str]:
    """The prompts of the suites that were asked as they are now, by suite and item."""
    same = {name: suites[name] for name, asked in results.suites.items() if name in suites}
    return {
        (name, item.id): f"({item.system}) {item.prompt}" if item.system else item.prompt
        for name, suite in same.items()
        if suite.digest == results.suites[name].digest
        for items in suite.answers.values()
        for item in items
    }


def list_sealed(results: Results) -> list[Answers]:
    """The answers to the sealed holdout, whose items are named by their ids; those that flipped first."""
    found = [
        Answers(row.id, base.answer, candidate.answer, base.passed, candidate.passed)
        for row in results.holdout
        if (base := row.arms.get(Arm.BASE)) and (candidate := row.arms.get(Arm.CANDIDATE))
    ]
    return sorted(found, key=lambda one: not one.flipped)
