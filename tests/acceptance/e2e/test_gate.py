"""What is not served: an adapter that was wrecked in training is banished, an intent that cannot be met is refused."""

from __future__ import annotations

import pytest

from tests.support.running import Ritual, Stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]


def test_an_over_trained_adapter_is_banished_and_nothing_else_changes(stack: Stack, scribe: Ritual) -> None:
    before = stack.run("ask", "scribe", "Note about the tea tin: it is empty, the new one leaks.").stdout

    assert stack.run("intend", "scribe", "--recipe", "overtrained").returncode == 0
    watched = stack.run("watch")

    print(watched.stdout)
    report = stack.newest()
    assert watched.returncode != 0
    assert report["state"] == "banished"
    assert report["scores"]["base_logic_state"] == "broken"
    assert stack.run("ask", "scribe", "Note about the tea tin: it is empty, the new one leaks.").stdout == before


def test_an_unknown_recipe_is_refused_before_anything_is_done(rehearsed: Stack) -> None:
    refused = rehearsed.run("intend", "scribe", "--recipe", "no-such")

    assert refused.returncode != 0
    assert "shipped recipes are" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_persona_without_karma_is_refused_with_what_is_missing(rehearsed: Stack) -> None:
    rehearsed.run("intend", "nobody")
    watched = rehearsed.run("watch")

    assert watched.returncode != 0
    assert "no karma" in watched.stdout + watched.stderr
