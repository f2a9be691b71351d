"""The bases of every value that crosses a border: frozen, closed, validated."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

from shared.contracts.text import is_storable

Value = TypeVar("Value")


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Storable(Frozen):
    """A value from outside: invalid where one of its texts cannot be stored."""

    @field_validator("*")
    @classmethod
    def holds_storable_text(cls, value: Value) -> Value:
        if not is_storable(value):
            raise ValueError("NUL character in text, or half of a surrogate pair: PostgreSQL cannot hold it")
        return value
