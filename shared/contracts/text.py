"""Text that PostgreSQL, JSON and UTF-8 can hold: no NUL character, no half of a surrogate pair."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel

Value = TypeVar("Value")

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(value: Value) -> Value:
    """The value with every character that cannot be stored replaced, in all texts of its models, mappings and sequences."""
    cleaned: Any = value
    if isinstance(value, str):
        cleaned = _UNSTORABLE.sub(REPLACEMENT, value)
    elif isinstance(value, dict):
        cleaned = {clean(key): clean(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        cleaned = type(value)(clean(item) for item in value)
    elif isinstance(value, BaseModel) and not is_storable(value):
        cleaned = value.model_copy(update={name: clean(item) for name, item in value})
    return cleaned  # type: ignore[no-any-return]


def is_storable(value: object) -> bool:
    """Whether no text of the value, of its models, mappings and sequences, holds a character that cannot be stored."""
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is None
    if isinstance(value, dict):
        return all(is_storable(key) and is_storable(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_storable, value))
    if isinstance(value, BaseModel):
        return all(is_storable(item) for _, item in value)
    return True
