"""What failed or was cut off is context and is not trained; a history that ends in no answer is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.histories import (
    ASKED,
    CALLED,
    REQUEST,
    event,
    imported,
    item,
    line,
    result,
    said,
    transcript,
    written,
)

TALK = [said("user", "q"), said("assistant", "a"), said("user", "Oil the gate.")]
CLAUDE_ENDS = {
    "a call": ([ASKED, CALLED], "ends in a tool call"),
    "a result": ([ASKED, CALLED, line("r1", "a1", "user", [result("c1", "done")])], "ends in a tool call"),
    "an interruption": (
        [ASKED, line("a1", "u1", "assistant", "I wi"), line("u2", "a1", "user", "[Request interrupted by user]")],
        "interrupted",
    ),
    "a refusal": ([ASKED, line("a1", "u1", "assistant", "I can't", message={"stop_reason": "refusal"})], "refused"),
    "a cut answer": (
        [ASKED, line("a1", "u1", "assistant", "I oi", message={"stop_reason": "max_tokens"})],
        "interrupted",
    ),
    "an error of the provider": (
        [ASKED, line("a1", "u1", "assistant", "API Error", isApiErrorMessage=True)],
        "refused",
    ),
    "words of the program": (
        [ASKED, line("a1", "u1", "assistant", "No response requested.", message={"model": "<synthetic>"})],
        "refused",
    ),
    "an answer after nothing but failures": (
        [
            ASKED,
            CALLED,
            line("r1", "a1", "user", [result("c1", "x", failed=True)]),
            line("a2", "r1", "assistant", "Done."),
        ],
        "every tool call that the last answer could rest on failed",
    ),
    "a line that is not there": (
        [ASKED, line("a2", "a1", "assistant", "Done.")],
        "follows one that is not in the file",
    ),
    "an attachment": ([line("u1", None, "user", [{"type": "image"}]), line("a1", "u1", "assistant", "Yes.")], "image"),
}


@pytest.mark.parametrize(("events", "why"), CLAUDE_ENDS.values(), ids=CLAUDE_ENDS)
def test_a_history_without_an_answer_is_not_cut_back_to_an_earlier_one(
    events: list[dict[str, Any]], why: str, tmp_path: Path
) -> None:
    earlier = [line("e1", None, "user", "Hello."), line("e2", "e1", "assistant", "Hello, what is to do?")]
    events = [*earlier, {**events[0], "parentUuid": "e2"}, *events[1:]]
    records, faults = imported(written(tmp_path, events))
    assert not records and why in faults[0]


ENDS = {
    "Codex, a call": ([*TALK, item("function_call", call_id="c", name="x", arguments="{}")], "ends in a tool call"),
    "Codex, aborted": ([*TALK, said("assistant", "I wi"), event("turn_aborted", reason="interrupted")], "interrupted"),
    "Codex, a search without result": (
        [*TALK, item("web_search_call"), said("assistant", "It says so.")],
        "web_search_call",
    ),
    "pydantic-ai, a call": (
        [
            REQUEST,
            {
                "kind": "response",
                "parts": [{"part_kind": "tool-call", "tool_name": "x", "args": {}, "tool_call_id": "c"}],
            },
        ],
        "ends in a tool call",
    ),
    "pydantic-ai, a cut answer": (
        [REQUEST, {"kind": "response", "finish_reason": "length", "parts": [{"part_kind": "text", "content": "Fi"}]}],
        "interrupted",
    ),
    "pydantic-ai, a file": (
        [REQUEST, {"kind": "response", "parts": [{"part_kind": "file", "content": {}}]}],
        "part_kind: file is not supported",
    ),
    "OpenHands, a call": (
        [
            {"id": 0, "source": "user", "action": "message", "args": {"content": "Oil the gate."}},
            {"id": 1, "source": "agent", "action": "run", "args": {"command": "oil"}},
            {"id": 2, "source": "environment", "observation": "run", "content": "done", "extras": {}, "cause": 1},
            {
                "id": 3,
                "source": "environment",
                "observation": "agent_state_changed",
                "extras": {"agent_state": "error"},
            },
        ],
        "ends in a tool call",
    ),
}


@pytest.mark.parametrize(("events", "why"), ENDS.values(), ids=ENDS)
def test_other_histories_without_an_answer_are_refused_too(events: list[Any], why: str, tmp_path: Path) -> None:
    records, faults = imported(written(tmp_path, events))
    assert not records and len(faults) == 1 and why in faults[0]


def test_what_the_user_denied_is_no_failure_that_an_answer_rests_on(tmp_path: Path) -> None:
    denied = line(
        "r1", "a1", "user", [result("c1", "The user doesn't want to proceed with this tool use.", failed=True)]
    )
    [record], _ = imported(
        written(tmp_path, [ASKED, CALLED, denied, line("a2", "r1", "assistant", "Then I will wait.")])
    )
    assert [message.weight for message in record.messages] == [None, 0, None, None]


def test_an_answer_that_rests_on_failures_is_not_trained_where_others_follow(tmp_path: Path) -> None:
    failed = line("r1", "a1", "user", [result("c1", "x", failed=True)])
    talk = [
        line("a2", "r1", "assistant", "Oiled."),
        line("u2", "a2", "user", "Bye."),
        line("a3", "u2", "assistant", "Bye!"),
    ]
    [record], _ = imported(written(tmp_path, [ASKED, CALLED, failed, *talk]))
    assert [message.weight for message in record.messages] == [None, 0, None, 0, None, None]


def test_words_that_were_cut_or_taken_back_are_not_mixed_with_what_was_said_instead(tmp_path: Path) -> None:
    cut = line("a1", "u1", "assistant", "I oi", isAbortedMidStream=True)
    taken_back = line("a2", "a1", "assistant", "TAKEN BACK")
    note = {"type": "system", "uuid": "n", "parentUuid": "a2", "sessionId": "s", "retractedMessageUuids": ["a2"]}
    events = [ASKED, cut, taken_back, note, line("a3", "n", "assistant", "Oiled.")]
    [record], _ = imported(written(tmp_path, events))
    assert transcript(record)["messages"] == [
        "user: Oil the gate.",
        "assistant (not trained): I oi",
        "assistant: Oiled.",
    ]


def test_what_the_user_typed_or_attached_while_the_agent_worked_is_read(tmp_path: Path) -> None:
    def attached(uuid: str, parent: str, **values: Any) -> dict[str, Any]:
        return {"type": "attachment", "uuid": uuid, "parentUuid": parent, "sessionId": "s", "attachment": values}

    file = {"type": "text", "file": {"filePath": "/log.txt", "content": "gate 2"}}
    events = [
        ASKED,
        attached("x1", "u1", type="file", filename="/log.txt", content=file),
        attached("x2", "x1", type="queued_command", prompt="The west one."),
        attached("x3", "x2", type="task_reminder", content=[]),
        line("a1", "x3", "assistant", "Oiled."),
    ]
    [record], _ = imported(written(tmp_path, events))
    assert record.messages[0].content == "Oil the gate.\n\n/log.txt:\ngate 2\n\nThe west one."
    image = attached("x1", "u1", type="file", filename="/a.png", content={"type": "image", "file": {}})
    records, [why] = imported(written(tmp_path, [ASKED, image, line("a1", "x1", "assistant", "Oiled.")]))
    assert not records and "attachments are not supported" in why


def test_how_tools_report_a_failure_is_read_from_their_results(tmp_path: Path) -> None:
    def ran(output: object) -> list[dict[str, Any]]:
        call = item("function_call", call_id="c", name="x", arguments="{}")
        good = item("function_call", call_id="d", name="x", arguments="{}")
        results = [item("function_call_output", call_id=id, output=value) for id, value in (("c", output), ("d", "ok"))]
        return [said("user", "q"), call, results[0], good, results[1], said("assistant", "a")]

    for output in (
        "Exit code: 1\nx",
        {"content": "x", "success": False},
        json.dumps({"output": "x", "metadata": {"exit_code": 2}}),
    ):
        [record], _ = imported(written(tmp_path, ran(output)))
        assert [message.weight for message in record.messages if message.tool_calls] == [0, None]
    [record], _ = imported(written(tmp_path, ran({"content": "Exit code: 0\nx", "success": True})))
    assert [message.weight for message in record.messages if message.tool_calls] == [None, None]


def test_what_pydantic_ai_denied_or_left_is_not_trained(tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = [
        {"part_kind": "tool-call", "tool_name": name, "args": {}, "tool_call_id": name}
        for name in ("x", "final_result")
    ]
    returned = [
        {"part_kind": "tool-return", "tool_name": "final_result", "content": "ok", "tool_call_id": "final_result"},
        {"part_kind": "tool-return", "tool_name": "x", "content": "Tool not executed", "tool_call_id": "x"},
    ]
    denied = {"part_kind": "tool-return", "tool_name": "x", "content": "no", "tool_call_id": "x", "outcome": "denied"}
    answered = {"kind": "response", "parts": [{"part_kind": "text", "content": "I will wait."}]}
    asking = {"kind": "response", "parts": calls[:1]}
    [record], _ = imported(written(tmp_path, [REQUEST, asking, {"kind": "request", "parts": [denied]}, answered]))
    assert [message.weight for message in record.messages] == [None, 0, None, None]
    [record], _ = imported(
        written(tmp_path, [REQUEST, {"kind": "response", "parts": calls}, {"kind": "request", "parts": returned}])
    )
    assert transcript(record)["messages"] == ["user: Oil the gate.", "assistant: {}"]
    records, [why] = imported(written(tmp_path, [REQUEST, answered | {"state": "interrupted"}]))
    assert not records and "interrupted" in why


def test_a_call_without_its_result_is_left_out_and_a_result_without_its_call_refused(tmp_path: Path) -> None:
    call = item("function_call", call_id="c", name="x", arguments="{}")
    talk = [said("user", "q"), call, said("user", "Never mind."), said("assistant", "a")]
    [record], _ = imported(written(tmp_path, talk))
    assert [message.content for message in record.messages] == ["q", "Never mind.", "a"]
    records, [why] = imported(
        written(tmp_path, [*talk, item("function_call_output", call_id="d", output="x"), said("assistant", "b")])
    )
    assert not records and why == "a tool result without its call"


def test_a_line_that_cannot_be_read_refuses_the_history(tmp_path: Path) -> None:
    file = written(tmp_path, [ASKED, line("a1", "u1", "assistant", "Oiled.")])
    file.write_text(file.read_text() + '{"type": "assis')
    records, [why] = imported(file)
    assert not records and why == "not JSON: the history is not whole without it"


def test_the_output_of_a_structured_answer_is_the_answer(tmp_path: Path) -> None:
    def output(identity: str, litres: object) -> dict[str, Any]:
        call = {
            "part_kind": "tool-call",
            "tool_name": "final_result",
            "args": {"litres": litres},
            "tool_call_id": identity,
        }
        return {"kind": "response", "parts": [call]}

    def returned(identity: str, content: object, outcome: str) -> dict[str, Any]:
        part = {"part_kind": "tool-return", "tool_name": "final_result", "content": content, "tool_call_id": identity}
        return {"kind": "request", "parts": [part | {"outcome": outcome}]}

    events = [
        REQUEST,
        output("c1", "x"),
        returned("c1", "not a number", "retried"),
        output("c2", 4),
        returned("c2", "ok", "success"),
    ]
    [record], _ = imported(written(tmp_path, events))
    assert [(message.content, message.weight) for message in record.messages] == [
        ("Oil the gate.", None),
        ('{"litres": "x"}', 0),
        ("not a number", None),
        ('{"litres": 4}', None),
    ]
