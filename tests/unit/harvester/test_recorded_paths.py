"""Golden paths of the instrumentations in use: what real packages recorded is read as the conversation that took place."""

from __future__ import annotations

import pytest

from services.harvester.trajectories.path import rebuild
from tests.support.recorded_traces import (
    AGENTS,
    RUNS,
    WITHOUT_TOOLS,
    Recording,
    conversation,
    expected,
    recordings,
    tool_names,
)

RECORDED = recordings()


def test_every_agent_is_recorded_in_every_run() -> None:
    assert {(each.agent, each.run) for each in RECORDED} == {(agent, run) for agent in AGENTS for run in RUNS}


@pytest.mark.parametrize("recording", RECORDED, ids=lambda each: f"{each.agent}-{each.run}")
def test_a_recorded_run_is_read_as_the_conversation_that_took_place(recording: Recording) -> None:
    path = rebuild(recording.spans, recording.answer)

    assert conversation(path.messages) == expected(recording)
    assert path.pruned == (2 if recording.run == "failed_then_good" else 0)
    assert tool_names(path.tools) == ([] if recording.agent in WITHOUT_TOOLS else ["balance"])
