"""Commands to a ritual under way: those that would change nothing are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli.commands.control import objection_to_cancel, objection_to_pause, objection_to_resume
from tests.unit.cli.rows import at, ritual

PAUSED: dict[str, Any] = {"paused_at": at(5)}
CANCELLED: dict[str, Any] = {"cancel_requested_at": at(5)}


@pytest.mark.parametrize("state", ["intended", "harvested", "evacuated", "forged"])
def test_a_ritual_that_needs_the_anvil_can_be_paused_and_resumed(state: str) -> None:
    assert objection_to_pause(ritual(state)) is None
    assert objection_to_resume(ritual(state, **PAUSED)) is None
    assert objection_to_cancel(ritual(state, **PAUSED)) is None, "a paused one can be ended too"


def test_an_ended_ritual_is_neither_paused_nor_resumed_nor_cancelled() -> None:
    ended = ritual("failed", 20, 20, **PAUSED)

    assert objection_to_pause(ended) == "is failed already: there is nothing to pause"
    assert objection_to_resume(ended) == "is failed already: there is nothing to resume"
    assert objection_to_cancel(ended) == "is failed already: there is nothing to cancel"


def test_what_would_change_nothing_is_refused() -> None:
    verified = ritual("verified", 30)
    assert objection_to_pause(verified) == "is verified: it needs the anvil no more, so there is nothing to pause"
    assert objection_to_pause(ritual("harvested", **PAUSED)) == (
        "is paused already: soulforge resume 6cb89406 lets it go on"
    )
    assert objection_to_pause(ritual("harvested", **CANCELLED)) == "was asked to end: there is nothing to pause"
    assert objection_to_resume(ritual("harvested")) == "is not paused: there is nothing to resume"
    assert "safe point" in str(objection_to_cancel(ritual("harvested", **CANCELLED)))
