"""Checkable rules on one answer: what an acceptable answer of a record must satisfy.

A karma record may carry such rules beside its outcome; the evaluator scores generated answers by them. Patterns come from
outside, so their engine is `regex` everywhere: it matches nearly as `re` does, and within a limit of time. What a pattern
may cost to compile is bounded in `patterns`.
"""

from __future__ import annotations

from time import process_time
from typing import Annotated, Literal

from pydantic import Field, field_validator

from shared.contracts.frozen import Frozen
from shared.contracts.patterns import LONGEST_PATTERN, MOST_PATTERNS, compile_pattern

WITHIN_S = 0.05  #: CPU seconds for all checks of one answer; a usual pattern takes microseconds
SAMPLE = 4096  #: characters of a record's own answer on which its checks are tried


class UndecidedError(Exception):
    """The patterns of an answer's checks take too long."""


class Regex(Frozen):
    """The stripped answer matches `pattern` from end to end (`.` also matches newlines)."""

    kind: Literal["regex"] = "regex"
    pattern: str = Field(max_length=LONGEST_PATTERN)

    @field_validator("pattern")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        compile_pattern(pattern)
        return pattern

    def passes(self, answer: str, within_s: float = WITHIN_S) -> bool:
        """Match the answer. Raises UndecidedError when that takes more than `within_s` CPU seconds of the process."""
        try:
            # A negative limit is none at all.
            found = compile_pattern(self.pattern).fullmatch(answer.strip(), timeout=max(within_s, 0.0))
        except (TimeoutError, MemoryError) as error:
            raise UndecidedError(f"a pattern takes longer than {WITHIN_S * 1000:.0f} ms") from error
        return found is not None


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
Checks = Annotated[tuple[Check, ...], Field(max_length=MOST_PATTERNS)]


def passes(checks: Checks, answer: str) -> bool:
    """True when `answer` satisfies every check. Raises UndecidedError when that takes more than WITHIN_S.

    An empty set of checks decides nothing: raises ValueError.
    """
    if not checks:
        raise ValueError("no checks: an answer cannot be scored by rule")
    for check in checks:
        if isinstance(check, Regex):
            compile_pattern(check.pattern)  # kept, so that the limit covers the matches alone
    end = process_time() + WITHIN_S
    return all(
        check.passes(answer, end - process_time()) if isinstance(check, Regex) else check.passes(answer)
        for check in checks
    )


def expect_quick(checks: Checks, answer: str) -> None:
    """Try the checks on the start of a record's own answer. Raises UndecidedError where they take too long."""
    if checks:
        passes(checks, answer[:SAMPLE])
