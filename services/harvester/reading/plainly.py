"""The commonest conversations, roles and texts alone, read as PostgreSQL prints them, without taking the JSON apart."""

from __future__ import annotations

import re

from services.harvester.reading.words import TURN, folded

#: Such a conversation is cut at its quotation marks: eight pieces a message.
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
    return said if said.isascii() else folded(said.decode())


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
