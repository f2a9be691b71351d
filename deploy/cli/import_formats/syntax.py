"""Bytes as JSON that PostgreSQL can hold: what is wrong with a piece of a file is named precisely, never quoted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from deploy.cli.import_formats.record import Wrong, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.contracts.karma import KarmaRecord

NUL = "NUL character in text: PostgreSQL cannot hold it"


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that `raw` is. Raises Wrong."""
    try:
        # Not json.loads: this one is three times as fast and refuses lone surrogates.
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Wrong(_fault(raw, str(error))) from None
    if not isinstance(value, dict):
        raise Wrong(f"{kind_of(value)}, not a JSON object")
    # The escape may itself be escaped, so the strings are looked at.
    if b"\\u0000" in raw and any("\0" in text for text in _strings(value)):
        raise Wrong(NUL)
    return value


def unstorable(record: KarmaRecord) -> str | None:
    """What JSON of this record PostgreSQL cannot hold: numbers without end; 1e999 reads as one."""
    try:
        for values in (record.tools, *(message.tool_calls for message in record.messages)):
            if values:
                json.dumps(values, allow_nan=False)
    except ValueError:
        return "a number too large to be held"
    return None


def _fault(raw: bytes, said: str) -> str:
    """What the reader's error means; only the beginning of its message is used, which never quotes."""
    if said.startswith("recursion limit"):
        return "nested too deeply"
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1})"
    if "\0" in text:
        return NUL
    if said.startswith("EOF") and text[0] in "{[":
        return "not JSON: truncated"
    if said.startswith("control character"):
        return "not JSON: a control character in text"
    if said.startswith("trailing characters") and text[0] in "{[":
        return "not JSON: something follows the object"
    return _beyond_json(text)


def _beyond_json(text: str) -> str:
    """What Python's looser reader takes and JSON does not have."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    if any("\ud800" <= letter <= "\udfff" for string in _strings(value) for letter in string):
        return "half of a surrogate pair in text"
    return "not JSON: NaN or Infinity"


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
