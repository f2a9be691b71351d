"""The commonest conversations, roles and texts alone, read as PostgreSQL prints them, without taking the JSON apart."""

from __future__ import annotations

import re
from functools import lru_cache

from services.harvester.reading.words import TURN, folded

_PIECES = 8  # of a message, where a conversation is cut at its quotation marks
_MARKED = {role.encode(): b"%c " % TURN[role] for role in ("user", "assistant")}
_UNUSUAL = re.compile(rb'\\[^"nrt]')
_QUOTED = b"\x04"  # stands for a quotation mark inside a text; PostgreSQL prints no such byte as it is


def said_plainly(written: bytes) -> bytes | None:
    """What `turns` makes of such a conversation.

    None where a closer look is needed: for other fields than role and content, for unusual escapes, for other roles than
    system, user and assistant, and where a user's turn or an answer at the end is missing.
    """
    escapes = b"\\" in written
    if escapes:
        if _UNUSUAL.search(written):
            return None
        written = written.replace(b'\\"', _QUOTED)
    pieces = written.split(b'"')
    messages = len(pieces) // _PIECES
    roles, texts = pieces[3::_PIECES], pieces[7::_PIECES]
    if len(roles) != messages or len(texts) != messages:
        return None
    pieces[3::_PIECES] = pieces[7::_PIECES] = [b""] * messages
    if b'"'.join(pieces) != _form(messages):
        return None
    if b"user" not in roles or roles[-1] != b"assistant" or not texts[-1]:
        return None
    try:
        said = b" ".join([_MARKED[r] + text for r, text in zip(roles, texts, strict=True) if r != b"system"])
    except KeyError:
        return None
    if escapes:
        said = said.replace(_QUOTED, b'"').replace(rb"\n", b"\n").replace(rb"\r", b"\r").replace(rb"\t", b"\t")
    return said if said.isascii() else folded(said.decode())


@lru_cache(maxsize=64)
def _form(messages: int) -> bytes:
    """How so many messages are printed, without their roles and texts."""
    return b"[%b]" % b", ".join([b'{"role": "", "content": ""}'] * messages)
