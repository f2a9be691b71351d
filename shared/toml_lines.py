"""Where a key stands in a TOML text. tomllib keeps no lines, so the text is read up to the end of each statement in turn."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]


def line_of(text: str, place: Place) -> int | None:
    """The line of the statement that first gives `place`, else of the nearest table around it; None where there is none."""
    statements = list(_statements(text))
    for length in range(len(place), 0, -1):
        for line, document in statements:
            if holds(document, place[:length]):
                return line
    return None


def holds(document: Any, place: Place) -> bool:
    """Whether a document has something at this place."""
    for key in place:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first line of each statement, and the document up to its end: a text is TOML exactly between statements."""
    lines = text.split("\n")
    start = None
    for end in range(1, len(lines) + 1):
        start = start or end
        try:
            document = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        yield start, document
        start = None
