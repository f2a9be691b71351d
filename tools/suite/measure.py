"""Write the base's score on each kind of the shipped suites to measured.json and README.md, from the results of an evaluation.

python -m tools.suite.measure RESULTS.json MODEL_NAME
"""

from __future__ import annotations

import argparse
from pathlib import Path

from services.verifier import statistics
from services.verifier.evidence import above_chance
from services.verifier.results import STYLE, Results
from shared.contracts.frozen import Frozen
from shared.contracts.verify import Arm
from tools.suite.generate import FOLDER, answer_kinds, kinds

CONFIDENCE = 0.95
MEASURED = "measured.json"
README = """\
# The shipped suites

What an adapter is evaluated on beside its own sealed holdout. `NAME.yaml` describes a suite: what it asks, how, and which loss
keeps an adapter from being promoted; `NAME/KIND.jsonl` has its items, written for this project by
`python -m tools.suite.generate`. Suites of your own: [docs/verdict.md](../../../docs/verdict.md).

- **base-logic**: short items that any sound model of this language answers, by the likelihood of each choice. Every wrong
  answer is the right answer of a sister item (in `word_order`: the same words in another order; in parts of `instructions`:
  another word of the sentence), and right answers are at each place equally often, so neither length nor frequency nor place
  reveals an answer. In `materials` and `two_digit_sums` a small base is far from the ceiling, so that a loss of harder abilities
  shows too.
- **general**: everyday questions outside every persona. The answers are generated, and checked by rule.
- **rigidity**: `obedience` asks questions under system prompts that are not the persona's. `style` asks nothing more: the
  answers to general prompts must not follow the rules of the persona that is judged, so it has no score here.
- **safety**: prompts that ask for keys, contacts and what was trained on. What a model gives away is measured against the base, whose
  own answers are right.
- **refusals**: requests that an aligned base refuses, and refusals by their words. So small a base refuses few.

Base scores of {model}, with Wilson's 95 % interval. Measured by {engine}; written by
`python -m tools.suite.measure`, which refuses a kind whose one-sided 95 % lower bound is not above chance. Whole kinds and
templates were kept, reworded or dropped after a first evaluation of the base; single items were not chosen by their score.
Items made by one template are not independent; the interval treats them as if they were.

| suite | kind | asks for | n | chance | base | interval |
|---|---|---|---|---|---|---|
{table}
"""


class BaseScore(Frozen):
    """The base's score on a kind."""

    suite: str
    kind: str
    n: int
    chance: float
    right: int


class Measured(Frozen):
    """`measured.json`."""

    base_digest: str
    engine: str
    suites: dict[str, str]
    kinds: tuple[BaseScore, ...]


def measured(results: Results) -> Measured:
    """Compute the base's score on each kind. Raises ValueError for kinds on which it is not shown to be above chance."""
    scores = tuple(
        _score(results, suite, kind, chance)
        for suite, asked in sorted(results.suites.items())
        for kind, chance in sorted(asked.chance.items())
        if kind != STYLE
    )
    at_chance = [score.kind for score in scores if not above_chance(score.right, score.n, score.chance, CONFIDENCE)]
    if at_chance:
        raise ValueError(f"the base is not shown to be above chance on {at_chance}: take them out")
    digests = {name: asked.digest for name, asked in results.suites.items()}
    return Measured(base_digest=results.base_digest, engine=results.engine, suites=digests, kinds=scores)


def readme(found: Measured, model: str) -> str:
    asks = {kind.name: kind.asks for kind in kinds()}
    asks_by_suite = {"base-logic": asks} | {
        suite: {kind.name: kind.asks for kind in made} for suite, made in answer_kinds().items()
    }
    lines = []
    for suite in sorted(found.suites):
        own = [score for score in found.kinds if score.suite == suite]
        lines += [_line(score, asks_by_suite[suite][score.kind]) for score in own]
        n = sum(score.n for score in own)
        chance = sum(score.chance * score.n for score in own) / n
        lines.append(
            _line(BaseScore(suite=suite, kind="all", n=n, chance=chance, right=sum(score.right for score in own)), "")
        )
    return README.format(model=model, engine=found.engine, table="\n".join(lines))


def _score(results: Results, suite: str, kind: str, chance: float) -> BaseScore:
    answers = [
        score.correct for score in results.items if score.arm is Arm.BASE and (score.suite, score.kind) == (suite, kind)
    ]
    return BaseScore(suite=suite, kind=kind, n=len(answers), chance=chance, right=sum(answers))


def _line(score: BaseScore, asks: str) -> str:
    low, high = statistics.wilson(score.right, score.n, CONFIDENCE)
    share = f"{score.right / score.n:.3f} | {low:.3f} - {high:.3f}"
    return f"| {score.suite} | {score.kind} | {asks} | {score.n} | {score.chance:.2f} | {share} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of an evaluation of the base")
    parser.add_argument("model", help="name of the base for the table")
    given = parser.parse_args()
    found = measured(Results.model_validate_json(given.results.read_bytes()))
    (FOLDER / MEASURED).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (FOLDER / "README.md").write_text(readme(found, given.model), encoding="utf-8")


if __name__ == "__main__":
    main()
