"""An adapter that was wrecked in training is banished, and the persona goes on answering as before."""

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
    assert report["scores"]["suites"]["base-logic"]["state"] == "broken"
    assert stack.run("ask", "scribe", "Note about the tea tin: it is empty, the new one leaks.").stdout == before
