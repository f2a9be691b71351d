"""Checkable rules on one answer: what an acceptable answer of a record must satisfy.

A karma record may carry such rules beside its outcome; the evaluator scores generated answers by them.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from shared.contracts.frozen import Frozen

LONGEST_PATTERN = 2000
# Python takes up to 8 ms to compile one set beyond ASCII, and 5 ms for all else in a pattern of that length.
MOST_SETS = 32


class Regex(Frozen):
    """The stripped answer matches `pattern` from end to end (`.` also matches newlines)."""

    kind: Literal["regex"] = "regex"
    pattern: str = Field(max_length=LONGEST_PATTERN)

    @field_validator("pattern")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        if pattern.count("[") > MOST_SETS:
            raise ValueError(f"more than {MOST_SETS} character sets")
        try:
            re.compile(pattern, re.DOTALL)
        except Exception as error:  # also OverflowError, RecursionError and MemoryError
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def passes(self, answer: str) -> bool:
        return re.fullmatch(self.pattern, answer.strip(), re.DOTALL) is not None


class Contains(Frozen):
    """The answer contains `text`; letter case counts."""

    kind: Literal["contains"] = "contains"
    text: str

    def passes(self, answer: str) -> bool:
        return self.text in answer


class Absent(Frozen):
    """The answer does not contain `text`; letter case counts."""

    kind: Literal["absent"] = "absent"
    text: str

    def passes(self, answer: str) -> bool:
        return self.text not in answer


class Equals(Frozen):
    """The stripped answer equals the stripped `text`."""

    kind: Literal["equals"] = "equals"
    text: str

    def passes(self, answer: str) -> bool:
        return answer.strip() == self.text.strip()


class MaxWords(Frozen):
    """The answer has at most `words` words, split at white space."""

    kind: Literal["max_words"] = "max_words"
    words: int = Field(gt=0)

    def passes(self, answer: str) -> bool:
        return len(answer.split()) <= self.words


Check = Annotated[Regex | Contains | Absent | Equals | MaxWords, Field(discriminator="kind")]


def passes(checks: tuple[Check, ...], answer: str) -> bool:
    """True when `answer` satisfies every check. An empty set of checks decides nothing: raises ValueError."""
    if not checks:
        raise ValueError("no checks: an answer cannot be scored by rule")
    return all(check.passes(answer) for check in checks)
