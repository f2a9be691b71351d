"""The tokens of a text, as two texts are compared: words, letters of scripts without spaces, numbers, operators, code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import regex

from services.harvester.scan.normalise import SPACELESS, SPACELESS_LETTER, fold, half_words
from services.harvester.scan.signs import CALL, CODE, FILLERS, FOUND_INSIDE, is_exact


def _compile(word: str, inside: str, symbol: str) -> regex.Pattern[str]:
    return regex.compile(
        rf"""
        (?P<code>```.*?(?:```|\Z)|`[^`\n]+`)
        {inside}
        |(?<!\S)(?:--?|−){word}(?:-{word})*                        # a flag, a negative number
        |{word}(?:['./\\@:]+{word}|(?<=\d),(?=\d){word})*[\#+]*   # a word, a path, a number, a time, a name in code
        |(?<![\w\\])\\[A-Za-z]+|\*\.(?=\w)|(?<=\w)\.\*|(?<!\S)\.\.(?!\S)  # an escape, a pattern of names, the folder above
        |°\s?[A-Za-z]
        |[<>=%&|~^+{symbol}]+|!=
        |(?<!\w)!(?=[A-Za-z_(])|(?<=[A-Za-z0-9_])[\[({{]
        |(?<=\b\w\s?)[-*/−](?=\s?\w\b)                         # between operands of one letter or digit
        |(?<=\d\s?)[-*/−](?=\s?\d)
        """,
        regex.V1 | regex.VERBOSE | regex.DOTALL,
    )


_TOKEN = _compile(
    rf"[[\p{{L}}\p{{N}}_]--{SPACELESS_LETTER}][[\p{{L}}\p{{M}}\p{{N}}_]--{SPACELESS_LETTER}]*",
    f"|{'|'.join(map(regex.escape, FOUND_INSIDE))}|{SPACELESS}",
    r"\p{Sm}\p{Sc}\p{So}",
)
_ASCII_TOKEN = _compile(r"[A-Za-z0-9_]+", "", "$")  # finds the same in ASCII, several times as fast
# Code is compared to the letter; the white space that begins a line is part of it.
_CONTRACTED = regex.compile(r"\b([A-Za-z]+)n't\b")
_VERBS = {"ca": "can", "wo": "will", "sha": "shall", "Ca": "Can", "Wo": "Will", "Sha": "Shall"}
_NUMBERED = regex.compile(r"^[ \t]*(\d{1,2})[.)][ \t]+", regex.MULTILINE)
_BLOCK = regex.compile(r":[ \t]*\n[ \t]+\S")
_INDENT = regex.compile(r"\n[ \t]+(?=\S)")
_IN_CALL = regex.compile(r"\n[ \t]*|\t|[ ]{2,}|\w+|[^\w\s]")
_IN_CODE = regex.compile(r"\n[ \t]*(?=\S)|\w+|[^\w\s]")


def read_tokens(text: str) -> list[str]:
    """All tokens of a text. Letter case and marks of code are kept, punctuation and white space of prose are not."""
    tokens: list[str] = []
    for found in (_ASCII_TOKEN if text.isascii() else _TOKEN).finditer(_without_numbering(_spelled_out(fold(text)))):
        if found["code"]:
            tokens += read_code(found[0].strip("`"))
        else:
            tokens.append(_fold_case(found[0]))
    return tokens


def _spelled_out(text: str) -> str:
    """`do not` for `don't`: whether a negation is contracted changes nothing."""
    return _CONTRACTED.sub(lambda found: f"{_VERBS.get(found[1], found[1])} not", text) if "n't" in text else text


def _without_numbering(text: str) -> str:
    """The text without the numbers that begin its lines and count from 1: lists are numbered or not."""
    numbers = [int(found[1]) for found in _NUMBERED.finditer(text)]
    return _NUMBERED.sub("", text) if len(numbers) > 1 and numbers == list(range(1, len(numbers) + 1)) else text


@lru_cache(maxsize=1 << 15)
def _fold_case(token: str) -> str:
    return token if is_exact(token) else token.casefold()


def read_indents(text: str) -> list[str]:
    """The white space that begins each line of a text with blocks, as code has it without being marked as code."""
    return [CODE + indent for indent in _INDENT.findall(text)] if _BLOCK.search(text) else []


def read_code(text: str) -> list[str]:
    return [CODE + token for token in _IN_CODE.findall(text)]


def read_call(text: str) -> list[str]:
    """A call to the letter; in its arguments, which are JSON, the ends of lines and tabs are escaped."""
    return [CALL + token for token in _IN_CALL.findall(text.replace("\\n", "\n").replace("\\t", "\t"))]


_FILLERS = {tuple(read_tokens(phrase)) for phrase in FILLERS}
_LONGEST = max(map(len, _FILLERS))


def drop_fillers(tokens: Sequence[str]) -> list[str]:
    """The tokens without the politeness that they begin and end with; all of them where nothing else is there."""
    start, end = 0, len(tokens)
    while filler := _filler_length(tokens[start : start + _LONGEST], first=True):
        start += filler
    while filler := _filler_length(tokens[max(start, end - _LONGEST) : end], first=False):
        end -= filler
    return list(tokens[start:end] or tokens)


def _filler_length(tokens: Sequence[str], *, first: bool) -> int:
    """How many of these tokens, the first or the last ones, are a phrase that changes nothing."""
    lengths = range(len(tokens), 0, -1)
    return next((n for n in lengths if tuple(tokens[:n] if first else tokens[-n:]) in _FILLERS), 0)


def count_words(tokens: Sequence[str]) -> float:
    return sum(map(half_words, tokens)) / 2
