"""The words of a conversation as they are compared: no system prompt, no letter case, no white space."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

DIGEST_BYTES = 16
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "“”„‘’«»–—…¡¿", " "))


def normal(text: str) -> str:
    """Unicode-normalised, case-folded, white space collapsed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.lower().split())


def spoken(messages: Iterable[dict[str, Any]]) -> str:
    """The words of everything that was said but the system prompt, without punctuation; tool calls count as said."""
    return words(" ".join(part for message in messages for part in _parts(message)))


def words(text: str) -> str:
    """The words of a text, normalised, joined by single spaces."""
    return " ".join(normal(text).translate(_PUNCTUATION).split())


def fingerprint(messages: Sequence[dict[str, Any]]) -> bytes:
    """The same for conversations of the same roles and words; system prompts do not count."""
    turns = (
        f"{message['role']}\x1f{normal(part)}\x1e" for message in messages for part in _parts(message) if part.strip()
    )
    return blake2b("".join(turns).encode(), digest_size=DIGEST_BYTES).digest()


def _parts(message: dict[str, Any]) -> Iterable[str]:
    if message["role"] == "system":
        return
    yield message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield f"{function.get('name', '')} {function.get('arguments', '')}"
