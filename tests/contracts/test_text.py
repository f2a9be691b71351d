"""Texts that cannot be stored are found and cleaned wherever they are."""

from __future__ import annotations

import pytest

from shared.contracts.text import clean, is_storable

UNSTORABLE = ("a\0b", "half \ud83d of a pair", ["x", {"deep": ("\0",)}], {"key\0": 1})


@pytest.mark.parametrize("value", UNSTORABLE)
def test_what_cannot_be_stored_is_replaced(value: object) -> None:
    assert not is_storable(value)
    assert is_storable(clean(value))


def test_everything_else_stays_as_it_is() -> None:
    value = {"text": "naïve 😀\n\t\x1b", "number": 1.5, "nothing": None, "list": [True, ("a",)]}
    assert is_storable(value)
    assert clean(value) == value
