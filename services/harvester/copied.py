"""Rows as PostgreSQL's COPY writes and reads them in its text format: fields between tabs, one row a line, as bytes.

Most fields of a record only pass through: whoever leaves them as they came spares their decoding and encoding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NULL = rb"\N"
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MEANT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_SPECIAL = re.compile(rb"[\\\b\f\n\r\t\v]")
_WRITTEN = {meant: b"\\" + letter for letter, meant in _MEANT.items()} | {b"\\": b"\\\\"}


def plain(field: bytes) -> bytes:
    """A field that is not NULL, as it is in the database."""
    if b"\\" not in field:
        return field
    return _ESCAPED.sub(lambda found: _MEANT.get(found[1], found[1]), field)


def text(field: bytes) -> str:
    return field.decode() if b"\\" not in field else plain(field).decode()


def plain_json(field: bytes) -> bytes:
    """A field of JSON, which holds no control characters: only its backslashes are written twice."""
    return field.replace(rb"\\", b"\\") if b"\\" in field else field


def plain_jsons(fields: Sequence[bytes]) -> list[bytes]:
    """The same of many fields at once."""
    return plain_json(b"\n".join(fields)).split(b"\n")


def escaped(value: bytes) -> bytes:
    """A value as a field."""
    return _SPECIAL.sub(lambda found: _WRITTEN[found[0]], value)
