"""An intent that cannot be met is refused, and why is shown."""

from __future__ import annotations

import pytest

from tests.support.running import Stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def test_an_unknown_recipe_is_refused_before_anything_is_done(rehearsed: Stack) -> None:
    refused = rehearsed.run("intend", "scribe", "--recipe", "no-such")

    assert refused.returncode != 0
    assert "known recipes are" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_persona_without_karma_is_refused_with_what_is_missing(rehearsed: Stack) -> None:
    rehearsed.run("intend", "nobody")
    watched = rehearsed.run("watch")

    assert watched.returncode != 0
    assert "no karma" in watched.stdout + watched.stderr
