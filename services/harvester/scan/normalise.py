"""The words of a conversation as they are compared: no system prompt, no letter case, no punctuation, no white space."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

DIGEST_BYTES = 16
#: A byte before each turn, so that its role counts; none of them occurs in a word.
TURN = {"user": 1, "assistant": 2, "tool": 3}
_WIDE = str.maketrans(dict.fromkeys("“”„‘’«»–—…¡¿", " "))
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


def words_of(messages: Iterable[dict[str, Any]]) -> list[str]:
    """The words of a conversation as a list."""
    return split_words(join_turns(messages)).decode().split()


def words_of_text(text: str) -> bytes:
    """The words of a plain text, in the form in which those of a conversation are compared."""
    return split_words(_fold(text))


def fingerprint(turns: bytes, words: bytes) -> bytes:
    """A digest, equal for conversations of the same turns and words whatever their letter case and white space."""
    return sha256(b"%b\0%b" % (words, turns.translate(_LOWER, _WHITE))).digest()[:DIGEST_BYTES]


def _fold(text: str) -> bytes:
    if text.isascii():
        return text.encode()
    return unicodedata.normalize("NFKC", text).casefold().translate(_WIDE).encode("utf-8", "replace")


def _text(message: dict[str, Any]) -> str:
    text: str = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function")
        if isinstance(function, dict):
            text = f"{text} {function.get('name', '')} {function.get('arguments', '')}"
    return text
