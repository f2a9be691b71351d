"""The words of a conversation as they are compared: no system prompt, no letter case, no white space."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

DIGEST_BYTES = 16
# Stand before each turn, so that who said it counts; no white space to str.split, and no word.
_TURN = {"user": "\x01", "assistant": "\x02", "tool": "\x03"}
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "“”„‘’«»–—…¡¿\x01\x02\x03", " "))


def said(messages: Iterable[dict[str, Any]]) -> str:
    """Everything that was said but the system prompt, turn by turn, normalised; tool calls count as said."""
    return normal(" ".join(f"{_TURN[m['role']]} {_text(m)}" for m in messages if m["role"] != "system"))


def normal(text: str) -> str:
    """Unicode-normalised, case-folded, white space collapsed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.lower().split())


def words(normalised: str) -> str:
    """The words of a normalised text without punctuation, joined by single spaces."""
    return " ".join(normalised.translate(_PUNCTUATION).split())


def spoken(messages: Iterable[dict[str, Any]]) -> str:
    """The words of a conversation."""
    return words(said(messages))


def fingerprint(normalised: str) -> bytes:
    """The same for conversations of the same turns and words, whatever their system prompts."""
    return blake2b(normalised.encode(), digest_size=DIGEST_BYTES).digest()


def _text(message: dict[str, Any]) -> str:
    text = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        text = f"{text} {function.get('name', '')} {function.get('arguments', '')}"
    return text
