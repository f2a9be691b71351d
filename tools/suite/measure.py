"""Write the base's scores by kind to suite.json and README.md, from the results of an evaluation.

python -m tools.suite.measure RESULTS.json MODEL_NAME
"""

from __future__ import annotations

import argparse
from pathlib import Path

from services.verifier import statistics
from services.verifier.evidence import above_chance
from services.verifier.results import Results
from shared.contracts.frozen import Frozen
from shared.contracts.verify import Arm
from tools.suite.generate import FOLDER, kinds

NAME = "base-logic"
CONFIDENCE = 0.95

README = """\
# The base-logic suite

Short items that any sound model of this language answers: what must not be lost while a persona is trained. They are
written for this project and made by `python -m tools.suite.generate`; lm-eval reads the task files here
(run it from the folder above: `lm_eval --include_path . --tasks base_logic`).

Every wrong answer is the right answer of a sister item (in `word_order`: the same words in another order; in parts of
`instructions`: another word of the sentence), and right answers are at each place equally often, so neither length nor
frequency nor place reveals an answer.

Base scores of {model}, with Wilson's 95 % interval. Measured by {engine}; written by
`python -m tools.suite.measure`, which refuses a kind whose one-sided 95 % lower bound is not above chance.

| kind | asks for | n | chance | base | interval |
|---|---|---|---|---|---|
{table}
| all | | {n} | {chance:.3f} | {share:.3f} | {low:.3f} - {high:.3f} |

How to read it: whole kinds and templates were kept, reworded or dropped after a first evaluation of the base (differences of
digits, either-or questions and facts about two persons scored at or near chance); single items were not chosen by their
score. The base is near the ceiling by design: few items then flip by accident, so that a drop beyond 3 points shows with
this many items, but a loss that spares such simple abilities does not show here. Items made by one template are not
independent; the interval treats them as if they were.
"""


class BaseScore(Frozen):
    """The base's score on a kind."""

    kind: str
    n: int
    chance: float
    right: int


class SuiteScores(Frozen):
    """`suite.json`."""

    confidence: float
    base_digest: str
    engine: str
    kinds: tuple[BaseScore, ...]


def suite_scores(results: Results) -> SuiteScores:
    """Compute the base's score on each kind. Raises ValueError for kinds on which it is not shown to be above chance."""
    suite = results.suites[NAME]
    answers: dict[str, list[bool]] = {kind: [] for kind in sorted(suite.chance)}
    for score in results.items:
        if score.arm is Arm.BASE and score.suite == NAME:
            answers[score.kind].append(score.correct)
    scores = tuple(
        BaseScore(kind=kind, n=len(found), chance=suite.chance[kind], right=sum(found))
        for kind, found in answers.items()
    )
    at_chance = [score.kind for score in scores if not above_chance(score.right, score.n, score.chance, CONFIDENCE)]
    if at_chance:
        raise ValueError(f"the base is not shown to be above chance on {at_chance}: take them out of KINDS")
    return SuiteScores(confidence=CONFIDENCE, base_digest=results.base_digest, engine=results.engine, kinds=scores)


def readme(scores: SuiteScores, model: str) -> str:
    asks = {kind.name: kind.asks for kind in kinds()}
    n, right = sum(score.n for score in scores.kinds), sum(score.right for score in scores.kinds)
    low, high = statistics.wilson(right, n, CONFIDENCE)
    chance = sum(score.chance * score.n for score in scores.kinds) / n
    table = "\n".join(_line(score, asks[score.kind]) for score in scores.kinds)
    return README.format(
        model=model, engine=scores.engine, table=table, n=n, chance=chance, share=right / n, low=low, high=high
    )


def _line(score: BaseScore, asks: str) -> str:
    low, high = statistics.wilson(score.right, score.n, CONFIDENCE)
    share = score.right / score.n
    return f"| {score.kind} | {asks} | {score.n} | {score.chance:.2f} | {share:.3f} | {low:.3f} - {high:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of an evaluation of the base")
    parser.add_argument("model", help="name of the base for the table")
    given = parser.parse_args()
    scores = suite_scores(Results.model_validate_json(given.results.read_bytes()))
    (FOLDER / "suite.json").write_text(scores.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (FOLDER / "README.md").write_text(readme(scores, given.model), encoding="utf-8")


if __name__ == "__main__":
    main()
