"""Histories in older and odd forms whose last answer or whose calls did not lead on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.histories import ASKED, CALLED, REQUEST, event, imported, item, line, result, said, written

DONE = said("assistant", "Done.")
CODEX_CALL = item("function_call", call_id="c1", name="shell", arguments="{}")
RETURNED = {"part_kind": "tool-return", "tool_call_id": "c1", "tool_name": "oil"}
PYDANTIC_CALL = {
    "kind": "response",
    "parts": [{"part_kind": "tool-call", "tool_call_id": "c1", "tool_name": "oil", "args": "{}"}],
}
PYDANTIC_DONE = {"kind": "response", "parts": [{"part_kind": "text", "content": "Done."}]}
TASK = {"id": 0, "source": "user", "action": "message", "args": {"content": "Oil the gate."}}
TALKED = {"id": 1, "source": "agent", "action": "message", "args": {"content": "I think"}}
ERROR_STATE = {
    "id": 2,
    "source": "environment",
    "observation": "agent_state_changed",
    "extras": {"agent_state": "error"},
}
GAVE_UP = {"id": 2, "source": "agent", "action": "finish", "args": {"message": "I gave up.", "task_completed": "false"}}
BROWSED = {"id": 1, "source": "agent", "action": "browse", "args": {"url": "x"}}
NO_PAGE = {"id": 2, "source": "agent", "observation": "browse", "cause": 1, "content": "x", "extras": {"error": True}}
FINISHED = {"id": 3, "source": "agent", "action": "finish", "args": {"message": "Done."}}


@pytest.mark.parametrize(
    "events",
    [
        [ASKED, line("a1", "u1", "assistant", "API Error: 529 overloaded")],
        [
            ASKED,
            CALLED,
            line("r1", "a1", "user", [result("c1", "pa")], toolUseResult={"interrupted": True}),
            line("a2", "r1", "assistant", "Done."),
        ],
        [said("user", "q"), item("message", role="assistant", content="Let me look.", phase="commentary")],
        [TASK, TALKED, ERROR_STATE],
        [TASK, GAVE_UP],
        [TASK, BROWSED, NO_PAGE, FINISHED],
        [REQUEST, PYDANTIC_CALL, {"kind": "request", "parts": [RETURNED | {"content": {"error": "x"}}]}, PYDANTIC_DONE],
    ],
    ids=["api", "interrupted", "commentary", "state", "gave-up", "page", "error"],
)
def test_what_did_not_lead_on_is_no_answer(events: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    file.write_text(json.dumps(events))
    assert imported(file)[0] == []


def test_a_denial_of_pydantic_ai_without_an_outcome_is_not_trained(tmp_path: Path) -> None:
    denied = {"kind": "request", "parts": [RETURNED | {"content": "The tool call was denied."}]}
    file = tmp_path / "session.json"
    file.write_text(json.dumps([REQUEST, PYDANTIC_CALL, denied, PYDANTIC_DONE]))
    [record], _ = imported(file)
    assert [message.weight for message in record.messages] == [None, 0, None, None]


@pytest.mark.parametrize("words", ["exec command rejected by user", "aborted by user after 3.0s"])
def test_what_the_user_of_codex_rejected_is_not_trained(words: str, tmp_path: Path) -> None:
    output = item("function_call_output", call_id="c1", output=words)
    [record], _ = imported(written(tmp_path, [said("user", "q"), CODEX_CALL, output, DONE]))
    assert [message.weight for message in record.messages] == [None, 0, None, None]


def test_words_before_a_call_are_no_bad_end_though_they_are_commentary(tmp_path: Path) -> None:
    looking = item("message", role="assistant", content="Let me look.", phase="commentary")
    output = item("function_call_output", call_id="c1", output="ok")
    events = [said("user", "q"), looking, CODEX_CALL, output, DONE, event("task_complete")]
    [record], _ = imported(written(tmp_path, events))
    assert record.messages[1].content == "Let me look." and record.messages[1].weight is None


def test_a_line_that_is_written_twice_is_one(tmp_path: Path) -> None:
    events = [ASKED, line("a1", "u1", "assistant", "Done."), line("a1", "u1", "assistant", "Done.")]
    [record], _ = imported(written(tmp_path, events))
    assert record.messages[-1].content == "Done."


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"stopped": True}, "interrupted"),
        ({"citations": [{"source": {}}]}, "citations"),
        ({"code_executions": [{}]}, "code_executions"),
        ({"statusHistory": [{"action": "web_search"}]}, "statusHistory"),
        ({"content": '<details done="true" type="tool_calls"></details>A'}, "calls that are written into the text"),
    ],
)
def test_a_chat_whose_answer_is_cut_or_rests_elsewhere_is_refused(
    message: dict[str, Any], why: str, tmp_path: Path
) -> None:
    asked = {"role": "user", "content": "q", "parentId": None}
    answered = {"role": "assistant", "content": "A", "parentId": "1", **message}
    chat = {"id": "c", "chat": {"history": {"messages": {"1": asked, "2": answered}, "currentId": "2"}}}
    records, [fault] = imported(written(tmp_path, [chat]))
    assert records == [] and why in fault


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"response_metadata": {"finish_reason": "length"}}, "finish_reason"),
        ({"additional_kwargs": {"refusal": "no"}}, "refusal"),
        ({"invalid_tool_calls": [{"name": "f"}]}, "error_calls"),
        ({"response_metadata": {"finish_reason": "STOP"}}, None),
    ],
)
def test_how_a_langchain_message_ended_is_read(more: dict[str, Any], name: str | None, tmp_path: Path) -> None:
    example = {"inputs": {"question": "q"}, "outputs": {"message": {"type": "ai", "content": "A", **more}}}
    records, faults = imported(written(tmp_path, [example]))
    assert bool(records) == (name is None) and all(name in fault for fault in faults if name)
