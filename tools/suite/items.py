"""Multiple-choice items, with wrong answers that cannot be recognised by their form.

A wrong answer is the right answer of a sister item: each text is right once and wrong equally often elsewhere, so that
neither its length nor its frequency reveals the answer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Sister = tuple[str, str]  # a context and its right answer


@dataclass(frozen=True)
class Item:
    """A context and the continuations to choose from. `form` names its template."""

    form: str
    context: str
    right: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """Items that test one ability. All of them have the same number of choices."""

    name: str
    asks: str
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """The expected score of guessing."""
        return 1 / (1 + len(self.items[0].wrong))


def sisters(form: str, group: Sequence[Sister]) -> list[Item]:
    """Make items whose wrong answers are the right answers of the rest of their group."""
    answers = [answer for _, answer in group]
    if len(set(answers)) != len(answers):
        raise ValueError(f"a group of {form} has the same answer twice: {answers}")
    return [Item(form, context, right, tuple(other for other in answers if other != right)) for context, right in group]


def grouped(form: str, facts: Sequence[Sister], size: int) -> list[Item]:
    """`sisters` over consecutive groups of `size`; the facts must divide evenly."""
    if len(facts) % size:
        raise ValueError(f"{form}: {len(facts)} facts do not make groups of {size}")
    return [item for start in range(0, len(facts), size) for item in sisters(form, facts[start : start + size])]


def rows(kind: Kind) -> Iterable[dict[str, object]]:
    """The kind's rows: shuffled by the kind's name, the right answer at each place equally often."""
    chosen = random.Random(kind.name)
    items = list(kind.items)
    chosen.shuffle(items)
    for number, item in enumerate(items):
        wrong = list(item.wrong)
        chosen.shuffle(wrong)
        answer = number % (1 + len(wrong))
        yield {
            "id": f"{kind.name}-{number:03}",
            "form": item.form,
            "context": item.context,
            "choices": [*wrong[:answer], item.right, *wrong[answer:]],
            "answer": answer,
        }


def lines(kind: Kind) -> str:
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows(kind))
