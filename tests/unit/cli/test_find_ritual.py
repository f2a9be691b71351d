"""Which ritual is meant by the start of an id."""

from __future__ import annotations

from uuid import UUID

import pytest

from deploy.cli.errors import UserError
from deploy.cli.queries.rituals import hex_prefix, one_of

ONE = UUID("6cb89406-a5da-5a31-a79c-4983e87f3f29")
TWO = UUID("6cb8ffff-a5da-5a31-a79c-4983e87f3f29")


@pytest.mark.parametrize("given", ["6cb8", "6CB8", " 6cb8 ", "6cb89406-a5da", str(ONE), ONE.hex])
def test_the_start_of_an_id_is_taken_with_or_without_dashes(given: str) -> None:
    assert ONE.hex.startswith(hex_prefix(given))


@pytest.mark.parametrize("given", ["", "-", "scribe", "6cb8%", "6cb_", ONE.hex + "0", "٦"])
def test_what_cannot_be_an_id_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="is not a ritual id"):
        hex_prefix(given)


def test_the_only_match_is_meant() -> None:
    assert one_of("6cb8", [ONE]) == ONE


def test_two_matches_are_named() -> None:
    with pytest.raises(UserError, match=f"{ONE} and {TWO}: give more"):
        one_of("6cb8", [ONE, TWO])


def test_no_match_is_an_error() -> None:
    with pytest.raises(UserError, match="no ritual begins with 6cb8"):
        one_of("6cb8", [])
