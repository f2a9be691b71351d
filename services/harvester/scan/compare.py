"""Compare two lessons: nearly the same, contradicting, or two of their own.

Alike are two lessons only where both their trained parts and their prompts are. What changes the meaning of a text (a
negation, a number, an operator, code, an opposite) keeps two apart however alike the rest is, and of a short text every
word that is not politeness. Lessons with one prompt that are apart by such a sign alone contradict each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from enum import StrEnum

import regex

from services.harvester.scan.lesson import Lesson
from services.harvester.scan.minhash import jaccard, shingles
from services.harvester.scan.signs import (
    CALL,
    CODE,
    EXCHANGED,
    EXCLUDED,
    NO,
    OPPOSITES,
    SUFFIXES,
    YES,
    is_exact,
    is_negation,
    is_sign,
)
from services.harvester.scan.tokens import count_words

SHORT = 24  # words, with the mark of the turn; in a text up to this length each of them counts
READ_WHOLE = 200  # words of a prompt that its embedding covers
ALIGNED = 1000  # tokens of the differing part of a text up to which they are aligned
REST_ALIKE = 2 / 3  # share of the other words that two contradicting answers have in common, at least

STEM = 3  # letters that a word and its negation have in common, at least

_ROMAN = regex.compile(r"[ivx]+$")
_LATIN = regex.compile(r"\p{Latin}")  # letters that the embedding model was trained on

Tokens = Sequence[str]
Change = tuple[list[str], list[str]]


class Likeness(StrEnum):
    """How two lessons are related."""

    NEAR = "near"  #: one of them is enough
    CONTRADICTING = "contradicting"  #: the same prompt, answered in ways that exclude each other
    APART = "apart"


def compare(one: Lesson, other: Lesson, least: float, *, like_meaning: bool = False) -> Likeness:
    """Compare two lessons; `least` is the Jaccard similarity of like texts.

    With `like_meaning`, found by their embeddings, the prompts may say the same in other words.
    """
    if not _alike(one.prompt, other.prompt, least) and not (like_meaning and _reworded(one.prompt, other.prompt)):
        return Likeness.APART
    if _alike(one.trained, other.trained, least):
        return Likeness.NEAR
    contradicting = one.system == other.system and _contradict(one.trained, other.trained)
    return Likeness.CONTRADICTING if contradicting else Likeness.APART


def _alike(one: Tokens, other: Tokens, least: float) -> bool:
    if one == other:
        return True
    if min(count_words(one), count_words(other)) <= SHORT:
        return False
    if jaccard(shingles(one), shingles(other)) < least or Counter(one) == Counter(
        other
    ):  # the same words in another order
        return False
    return not _differ_by_sign(_changes(one, other))


def _reworded(one: Tokens, other: Tokens) -> bool:
    """Whether texts of like meaning differ in more than one word, in none that changes the meaning or is in foreign letters."""
    if max(count_words(one), count_words(other)) > READ_WHOLE:
        return False
    gone, come = (list((Counter(a) - Counter(b)).elements()) for a, b in ((one, other), (other, one)))
    return max(len(gone), len(come)) > 1 and not any(is_sign(word) or not _LATIN.match(word) for word in (*gone, *come))


def _changes(one: Tokens, other: Tokens) -> list[Change]:
    """What is replaced between two texts, in order; a word after a number, which may be its unit, with the number."""
    start = _shared(one, other)
    one, other = one[max(start - 1, 0) :], other[max(start - 1, 0) :]
    if max(len(one), len(other)) > ALIGNED:
        return [(list((Counter(one) - Counter(other)).elements()), list((Counter(other) - Counter(one)).elements()))]
    changes = []
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind != "equal":
            number = one[a - 1] if a and one[a - 1][0].isdigit() else None
            changes.append((_with_unit(number, one[a:b]), _with_unit(number, other[c:d])))
    return changes


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How long the beginning is that two have in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _with_unit(number: str | None, words: Tokens) -> list[str]:
    return [" ".join((number, *words[:1])), *words[1:]] if number else list(words)


def _differ_by_sign(changes: Iterable[Change]) -> bool:
    return any(
        any(map(is_sign, (*gone, *come))) or any(map(_excludes, gone, come)) or _negated(gone, come)
        for gone, come in changes
    )


def _excludes(one: str, other: str) -> bool:
    """Whether a word is in the place of one that it excludes: of another number, day, colour, or another letter of a list."""
    if other in EXCLUDED.get(one, ()) or (_ROMAN.match(one) and _ROMAN.match(other)):
        return True
    return len(one) == len(other) == 1 and bool(_LATIN.match(one) and _LATIN.match(other))


def _contradict(one: Tokens, other: Tokens) -> bool:
    if any(token[0] == CALL for token in (*one, *other)):
        return False
    if _polar(one, other) or _polar(other, one):
        return True
    if _common(one, other) < REST_ALIKE / 2 * max(len(one), len(other)):
        return False
    changes = _changes(one, other)
    gone, come = [word for words, _ in changes for word in words], [word for _, words in changes for word in words]
    opposed = (
        any(map(is_negation, gone)) != any(map(is_negation, come))
        or any(_negated(*change) or _exclude(*change) for change in changes)
        or (any(map(is_exact, gone)) and any(map(is_exact, come)) and all(map(is_sign, (*gone, *come))))
    )
    common = min(len(one) - len(gone), len(other) - len(come))
    return opposed and common >= REST_ALIKE * (common + max(map(_count_changed, (gone, come))))


def _polar(one: Tokens, other: Tokens) -> bool:
    """Whether the first of two answers begins with a yes and the second with a no; a mark of the turn is before it."""
    return len(one) > 1 and len(other) > 1 and one[1] in YES and other[1] in NO


def _common(one: Tokens, other: Tokens) -> int:
    return (Counter(one) & Counter(other)).total()


def _count_changed(words: list[str]) -> int:
    """How many changed words there are besides those that oppose; in code all of them: it may be written in many ways."""
    return sum(word[0] == CODE or not is_sign(word) for word in words)


def _exclude(gone: list[str], come: list[str]) -> bool:
    """Whether two words of one line of opposites are in each other's place."""
    lines = [{line for word in words for line in OPPOSITES.get(word, ())} for words in (gone, come)]
    return bool(lines[0] & lines[1]) and not set(gone) & set(come)


def _negated(gone: list[str], come: list[str]) -> bool:
    """Whether one word is in the place of its own negation, as `possible` and `impossible`, `input` and `output`."""
    if len(gone) != 1 or len(come) != 1:
        return False
    one, other = gone[0], come[0]
    stem = _shared(one[::-1], other[::-1])
    beginnings = any(
        {one[: len(one) - size], other[: len(other) - size]} <= EXCHANGED for size in range(STEM, stem + 1)
    )
    start = _shared(one, other)
    return beginnings or (start >= STEM and {one[start:], other[start:]} <= SUFFIXES)
