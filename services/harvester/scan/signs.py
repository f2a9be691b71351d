"""Words that change the meaning of a text, and phrases that change nothing, from `signs.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import regex

from services.harvester.scan.normalise import SPACELESS, fold

_TABLES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("signs.toml").read_text(encoding="utf-8"))
# Verbs that carry their negation inside: Korean, Turkish, English, Arabic with its clitics.
_NEGATED = regex.compile(
    r"않|못|없|아니|마세요|마십시오|n't$|(?:m[ae]z|m[ae]y[ıi]n(?:[ıi]z)?|m[ıiuü]yor\w*|m[ae]d[ıi]\w*|m[ae]m[ae]l[ıi]\w*)$|^[وف](?:لا|لم|لن|ليس)$"
)
_BEGINS = regex.compile(SPACELESS, regex.V1)
#: Begins a token that is read letter by letter: of a span of code, of a tool call.
CODE, CALL = "`", "\4"
#: A token is a number, an identifier, a path or an operator where it holds one of these.
_SIGN = regex.compile(r"[\p{N}_./\\@:\[({\p{Sm}\p{Sc}%&#*°\x01-\x04`]|^-|^!=?$|\p{Ll}\p{Lu}")


def _words(table: str) -> Iterable[str]:
    return (fold(word).casefold() for words in _TABLES[table].values() for word in words.split())


NEGATIONS = frozenset(_words("negation")) | frozenset(_words("no"))
YES, NO = frozenset(_words("yes")), frozenset(_words("no"))
PREFIXES = frozenset(_words("prefixes"))
_LINES = [fold(line).casefold().split() for lines in _TABLES["opposites"].values() for line in lines]
OPPOSITES: dict[str, frozenset[int]] = {
    word: frozenset(at for at, line in enumerate(_LINES) if word in line) for line in _LINES for word in line
}
EXCHANGED = frozenset({"", *PREFIXES, *_words("exchanged")})
SUFFIXES = frozenset({"", *_words("suffixes")})
_EXCLUSIVE = [fold(line).casefold().split() for lines in _TABLES["exclusive"].values() for line in lines]
#: word -> the words that exclude it in its place.
EXCLUDED: dict[str, frozenset[str]] = {
    word: frozenset(other for line in (*_LINES, *_EXCLUSIVE) if word in line for other in line) - {word}
    for line in (*_LINES, *_EXCLUSIVE)
    for word in line
}
FILLERS = [fold(phrase).casefold() for phrases in _TABLES["filler"].values() for phrase in phrases]
#: What is found in a text without spaces, the longest first.
FOUND_INSIDE = sorted(
    {word for word in (*NEGATIONS, *YES, *EXCLUDED, *FILLERS) if _BEGINS.match(word)}, key=len, reverse=True
)


def is_negation(token: str) -> bool:
    return token in NEGATIONS or bool(_NEGATED.search(token))


def is_exact(token: str) -> bool:
    """Whether a token is a number, an identifier, a path, an operator, code or the begin of a turn."""
    return bool(_SIGN.search(token))


def is_sign(token: str) -> bool:
    """Whether another token in this one's place gives another meaning, however alike the rest is."""
    return token in OPPOSITES or token in YES or is_negation(token) or is_exact(token)
