"""The words of a conversation as they are compared: no system prompt, no letter case, no punctuation, no white space.

Works on UTF-8 bytes of many conversations at once, since a million of them pass through here.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

DIGEST_BYTES = 16
TURN = {
    "user": 1,
    "assistant": 2,
    "tool": 3,
}  #: bytes that stand before each turn, so that who said it counts; of no word
_WIDE = str.maketrans(dict.fromkeys("“”„‘’«»–—…¡¿", " "))
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_WHITE = string.whitespace.encode()
_NO_WORD = string.punctuation.encode() + _WHITE + bytes(TURN.values())
_WORDS = _LOWER.translate(bytes.maketrans(_NO_WORD, b" " * len(_NO_WORD)))
_SPACE = ord(" ")
_END = b"\0"  # between conversations; PostgreSQL stores no such byte


def turns(messages: Iterable[dict[str, Any]]) -> bytes:
    """Everything that was said but the system prompt, turn by turn; tool calls count as said."""
    said = " ".join([f"{chr(TURN[m['role']])} {_text(m)}" for m in messages if m["role"] != "system"])
    return folded(said)


def words(said: Sequence[bytes]) -> list[bytes]:
    """The words of what was said in each conversation: in lower case, without punctuation, joined by single spaces."""
    if not said:
        return []
    text = np.frombuffer(_END.join(said).translate(_WORDS), np.uint8)
    spaces = text == _SPACE
    kept = np.ones(len(text), bool)
    kept[:-1] = ~(spaces[:-1] & spaces[1:])
    return [spoken.strip() for spoken in text[kept].tobytes().split(_END)]


def spoken(messages: Iterable[dict[str, Any]]) -> list[str]:
    """The words of a conversation."""
    return words([turns(messages)])[0].decode().split()


def fingerprints(said: Sequence[bytes], spoken: Sequence[bytes]) -> list[str]:
    """The same for conversations of the same turns and words, whatever their letter case and white space."""
    close = _END.join(said).translate(_LOWER, _WHITE).split(_END)
    return [sha256(b"%b\0%b" % both).hexdigest()[: 2 * DIGEST_BYTES] for both in zip(spoken, close, strict=True)]


def words_of(text: str) -> bytes:
    """The words of a plain text, compared as those of a conversation are."""
    return words([folded(text)])[0]


def folded(text: str) -> bytes:
    """Without letter case beyond ASCII, in one of Unicode's forms of the same text."""
    if text.isascii():
        return text.encode()
    return unicodedata.normalize("NFKC", text).casefold().translate(_WIDE).encode("utf-8", "replace")


def _text(message: dict[str, Any]) -> str:
    text: str = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        text = f"{text} {function.get('name', '')} {function.get('arguments', '')}"
    return text
