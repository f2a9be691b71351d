"""The words of a conversation: no system prompt, no letter case, no punctuation, no white space.

Scripts without spaces have no words to split at: each letter with its marks counts as one, and as half a word where
words are counted.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any

import regex

DIGEST_BYTES = 16
#: A byte before each turn, so that its role counts; none of them occurs in a word.
TURN = {"user": 1, "assistant": 2, "tool": 3}
_WIDE_PUNCTUATION = regex.compile(r"[\p{P}--[\x00-\x7f]]", regex.V1)
_SCRIPTS = "Han Hiragana Katakana Thai Lao Khmer Myanmar Tibetan Javanese Balinese Tai_Le New_Tai_Lue Tai_Tham Yi"
#: A letter of a script that puts no space between words, and such a letter with its marks.
SPACELESS_LETTER = "[[" + "".join(rf"\p{{{script}}}" for script in _SCRIPTS.split()) + r"ー]&&\p{L}]"
SPACELESS = SPACELESS_LETTER + r"\p{M}*"
_SPACELESS = regex.compile(SPACELESS, regex.V1)
_INVISIBLE = regex.compile(r"\p{Cf}")
_DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_WHITE = string.whitespace.encode()
_NO_WORD = string.punctuation.encode() + _WHITE + bytes(TURN.values())
_WORDS = _LOWER.translate(bytes.maketrans(_NO_WORD, b" " * len(_NO_WORD)))


def join_turns(messages: Iterable[dict[str, Any]]) -> bytes:
    """All turns but the system prompt, tool calls included, as one text without letter case beyond ASCII."""
    return _fold(" ".join(f"{chr(TURN[m['role']])} {_text(m)}" for m in messages if m["role"] != "system"))


def split_words(turns: bytes) -> bytes:
    """The words of a conversation: in lower case, without punctuation, joined by single spaces."""
    return b" ".join(turns.translate(_WORDS).split())


def words_of_text(text: str) -> bytes:
    """The words of a plain text, in the form in which those of a conversation are compared."""
    return split_words(_fold(text))


def fingerprint(turns: bytes, words: bytes) -> bytes:
    """A digest, equal for conversations of the same turns and words whatever their letter case and white space."""
    return sha256(b"%b\0%b" % (words, turns.translate(_LOWER, _WHITE))).digest()[:DIGEST_BYTES]


@lru_cache(maxsize=4096)
def half_words(word: str) -> int:
    """How many halves of a word this one counts: one in a script without spaces, else two."""
    return 1 if _SPACELESS.match(word) else 2


def fold(text: str) -> str:
    """One form of what is written in several: NFKC, no invisible characters, ASCII digits and i; letter case is kept."""
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    text = (
        text.replace("’", "'").replace("İ", "I").replace("ı", "i")
    )  # Turkish letters of which case folding makes others
    return str(_DIGIT.sub(lambda found: str(unicodedata.digit(found[0])), text))


def _fold(text: str) -> bytes:
    if text.isascii():
        return text.encode()
    words: str = _SPACELESS.sub(r" \g<0> ", _WIDE_PUNCTUATION.sub(" ", fold(text).casefold()))
    return words.encode("utf-8", "replace")


def _text(message: dict[str, Any]) -> str:
    text: str = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function")
        if isinstance(function, dict):
            text = f"{text} {function.get('name', '')} {function.get('arguments', '')}"
    return text
