"""The words of a conversation as they are compared: no system prompt, no letter case, no punctuation, no white space.

Works on UTF-8 bytes, since a million records pass through here: `bytes.translate` folds ASCII in one pass.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

DIGEST_BYTES = 16
# Stand before each turn, so that who said it counts; of no word.
_TURN = {"user": "\x01", "assistant": "\x02", "tool": "\x03"}
_MARKS = "\x01\x02\x03"
_WIDE = str.maketrans(dict.fromkeys("“”„‘’«»–—…¡¿", " "))
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_WORDS = bytes.maketrans(
    (string.ascii_uppercase + string.punctuation + _MARKS).encode(),
    (string.ascii_lowercase + " " * (len(string.punctuation) + len(_MARKS))).encode(),
)
_WHITE = string.whitespace.encode()


def turns(messages: Iterable[dict[str, Any]]) -> bytes:
    """Everything that was said but the system prompt, turn by turn; tool calls count as said."""
    said = " ".join([f"{_TURN[m['role']]} {_text(m)}" for m in messages if m["role"] != "system"])
    return _folded(said)


#: How PostgreSQL prints a conversation of roles and texts alone, cut at its quotation marks: eight pieces a message.
_MARKED = {b"user": b"\x01 ", b"assistant": b"\x02 "}
_UNUSUAL = re.compile(rb'\\[^"nrt]')
_QUOTED = b"\x04"  # stands for a quotation mark inside a text; PostgreSQL prints no such byte as it is


def said_plainly(written: bytes) -> bytes | None:
    """What `turns` makes of the commonest conversations as PostgreSQL prints them, without taking the JSON apart.

    None where a closer look is needed: for other fields than role and content, for unusual escapes, for other roles than
    system, user and assistant, and where a user's turn or an answer at the end is missing.
    """
    escapes = b"\\" in written
    if escapes:
        if _UNUSUAL.search(written):
            return None
        written = written.replace(b'\\"', _QUOTED)
    pieces = written.split(b'"')
    messages, over = divmod(len(pieces), 8)
    if over != 1 or not _has_form(pieces, messages):
        return None
    roles, texts = pieces[3::8], pieces[7::8]
    if b"user" not in roles or roles[-1] != b"assistant" or not texts[-1]:
        return None
    try:
        said = b" ".join([_MARKED[r] + text for r, text in zip(roles, texts, strict=True) if r != b"system"])
    except KeyError:
        return None
    if escapes:
        said = said.replace(_QUOTED, b'"').replace(rb"\n", b"\n").replace(rb"\r", b"\r").replace(rb"\t", b"\t")
    return said if said.isascii() else _folded(said.decode())


def _has_form(pieces: list[bytes], messages: int) -> bool:
    return (
        pieces[0] == b"[{"
        and pieces[-1] == b"}]"
        and pieces[1::8] == [b"role"] * messages
        and pieces[5::8] == [b"content"] * messages
        and pieces[2::8] == pieces[6::8] == [b": "] * messages
        and pieces[4::8] == [b", "] * messages
        and pieces[8:-1:8] == [b"}, {"] * (messages - 1)
    )


def words(said: bytes) -> bytes:
    """The words of what was said, in lower case and without punctuation, joined by single spaces."""
    return b" ".join(said.translate(_WORDS).split())


def spoken(messages: Iterable[dict[str, Any]]) -> list[str]:
    """The words of a conversation."""
    return words(turns(messages)).decode().split()


def fingerprint(said: bytes, spoken: bytes) -> bytes:
    """The same for conversations of the same turns and words, whatever their letter case and white space."""
    return sha256(spoken + b"\0" + said.translate(_LOWER, _WHITE)).digest()[:DIGEST_BYTES]


def words_of(text: str) -> bytes:
    """The words of a plain text, compared as those of a conversation are."""
    return words(_folded(text))


def _folded(text: str) -> bytes:
    if text.isascii():
        return text.encode()
    return unicodedata.normalize("NFKC", text).casefold().translate(_WIDE).encode("utf-8", "replace")


def _text(message: dict[str, Any]) -> str:
    text: str = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        text = f"{text} {function.get('name', '')} {function.get('arguments', '')}"
    return text
