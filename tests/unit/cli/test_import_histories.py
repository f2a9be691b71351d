"""Histories of agents: what led to the accepted answer is trained, dead ends are context, and what has no answer is refused.

The samples in `histories/` are made up, in the form in which each tool writes its files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.import_formats import history
from deploy.cli.import_formats.formats import Format
from deploy.cli.import_formats.parser import Fault, parse_file
from deploy.cli.import_formats.record import ImportDefaults
from services.forge.trainer.render import trained_turns
from services.harvester.policy import Lengths
from shared.contracts.karma import KarmaRecord, Status

SAMPLES = Path(__file__).parent / "histories"
GOAL = 0.6
#: What the assistant wrote between the task and the accepted answer, dead ends not counted: words, and values of arguments.
PATHS = {
    "claude_code.jsonl": (
        "/home/ada/garden/tank/north.txt",
        "/home/ada/garden/tank/south.txt",
        "North holds 4200 litres, south 1100.",
        "Find the leak in the south tank.",
        "leak",
        "The south valve leaks since May.",
        "oil the gate; seal the south valve",
        "The south valve leaks; sealing it is on the list.",
    ),
    "codex.jsonl": (
        "grep squeak log.txt",
        "cat gates.txt",
        "Gate 2, the west one, squeaks.",
        "+oil the west gate",
        "Noted: the west gate needs oil.",
    ),
    "openhands.json": ("wc -l seeds.csv", "/workspace/seeds.csv", "There are 12 rows of seeds."),
    "openhands_sdk.jsonl": ("cat shed/lock", "Yes, the shed is locked."),
    "pydantic_ai.json": (
        "I will ask for both sites.",
        "north",
        "south",
        "North holds 4200 litres, south 1100.",
        "Fill the south tank first.",
    ),
    "langsmith.jsonl": ("Twelve metres.", "Ninety years.", "oak", "No, it is healthy."),
    "langfuse.json": ("After eight days.", "After ten days.", "No."),
    "phoenix.jsonl": ("The one with four tines.", "The spade."),
    "open_webui.json": ("Seven minutes.",),
}
DEAD_ENDS = (
    "noth.txt",
    "lgo.txt",
    "seed.csv",
    "shed/lok",
    "commnd",
    "nowhere",
    "Bad answer",
    "oka",
    "ABANDONED",
    "NOT THE ANSWER",
    "Yes, very.",
)


def imported(file: Path, record_format: Format = Format.AUTO) -> tuple[list[KarmaRecord], list[str]]:
    """The records of a file, and why others of it are refused."""
    defaults = ImportDefaults(file.stem, f"{file.stem}-1", "scribe", "me")
    contents = [line.content for line in parse_file(file, record_format, defaults)]
    records = [
        record for content in contents if content and not isinstance(content, Fault) for record in content.records
    ]
    return records, [content.why for content in contents if isinstance(content, Fault)]


def transcript(record: KarmaRecord) -> dict[str, Any]:
    """A record as one reads it."""
    lines = []
    for message in record.messages:
        calls = "; ".join(f"{call['function']['name']} {call['function']['arguments']}" for call in message.tool_calls)
        who = message.role + (" (not trained)" if message.weight == 0 else "")
        lines.append(f"{who}: {message.content or ''}" + (f" -> {calls}" if calls else ""))
    session = None if record.session == record.id else record.session
    return {"session": session, "feedback": record.feedback, "messages": lines}


def trained(record: KarmaRecord) -> str:
    """Everything of a record that is trained."""
    if record.feedback == "down":
        return ""
    messages = [message.model_dump(mode="json") for message in record.messages]
    turns = [record.messages[at] for at in trained_turns(messages)]
    arguments = (json.loads(call["function"]["arguments"]) for turn in turns for call in turn.tool_calls)
    values = (str(value) for given in arguments for value in given.values())
    return "\n".join([*(turn.content or "" for turn in turns), *values])


def tokens(record: KarmaRecord) -> float:
    """The length of a record as a harvest estimates it."""
    messages = [message.model_dump(mode="json", exclude_defaults=True) for message in record.messages]
    return len(json.dumps(messages, ensure_ascii=False).encode()) / 4


def written(folder: Path, events: Iterable[Any], name: str = "session.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    return file


@pytest.mark.parametrize("name", PATHS)
def test_what_led_to_the_answer_is_trained_and_dead_ends_are_not(name: str) -> None:
    records, faults = imported(SAMPLES / name)
    assert not faults
    words = "\n".join(trained(record) for record in records if tokens(record) <= Lengths().row)
    on_path = sum(map(len, PATHS[name]))
    share = sum(len(said) for said in PATHS[name] if said in words) / on_path
    print(f"{name}: {share:.0%} of {on_path} characters on the path are trained")
    assert share >= GOAL
    assert share == 1
    assert not [dead for dead in DEAD_ENDS if dead in words]
    assert not any(record.status is not Status.WHITE_TRUTH for record in records)


@pytest.mark.parametrize("name", PATHS)
def test_a_history_becomes_the_conversation_that_it_was(name: str) -> None:
    expected = json.loads((SAMPLES / "expected.json").read_text())
    assert [transcript(record) for record in imported(SAMPLES / name)[0]] == expected[name]


@pytest.mark.parametrize("name", PATHS)
def test_a_second_import_makes_the_same_records(name: str) -> None:
    assert imported(SAMPLES / name) == imported(SAMPLES / name)


def test_of_parallel_calls_the_failed_one_is_context_and_the_others_are_trained() -> None:
    [record], _ = imported(SAMPLES / "pydantic_ai.json")
    calls = [message for message in record.messages if message.tool_calls]
    assert [(message.weight, [call["id"] for call in message.tool_calls]) for message in calls] == [
        (0, ["call_1"]),
        (None, ["call_2"]),
        (None, ["call_3"]),
    ]
    assert [message.weight for message in record.messages if message.content == "Bad answer"] == [0]


def line(uuid: str, parent: str | None, role: str, content: Any, session: str = "s", **more: Any) -> dict[str, Any]:
    """A line of Claude Code."""
    message = {"role": role, "content": content, **more.pop("message", {})}
    return {"type": role, "uuid": uuid, "parentUuid": parent, "sessionId": session, "message": message, **more}


def used(identity: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": "Bash", "input": given}


def result(identity: str, words: str, failed: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": words, "is_error": failed}


ASKED = line("u1", None, "user", "Oil the gate.")
CALLED = line("a1", "u1", "assistant", [used("c1", command="oil")])
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


def item(kind: str, **payload: Any) -> dict[str, Any]:
    """A line of Codex."""
    return {"timestamp": "2026-03-02T10:00:00Z", "type": "response_item", "payload": {"type": kind, **payload}}


def said(role: str, words: str) -> dict[str, Any]:
    return item("message", role=role, content=[{"type": "input_text", "text": words}])


def meta(**payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-03-02T10:00:00Z", "type": "session_meta", "payload": payload}


def event(kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-03-02T10:00:00Z", "type": "event_msg", "payload": {"type": kind, **payload}}


REQUEST = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Oil the gate."}]}
TALK = [said("user", "q"), said("assistant", "a"), said("user", "Oil the gate.")]
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


def test_what_belongs_together_is_one_session_in_whichever_file_it_is(tmp_path: Path) -> None:
    helper = [
        line("h1", None, "user", "Look.", isSidechain=True, agentId="x"),
        line("h2", "h1", "assistant", "Seen.", isSidechain=True, agentId="x"),
    ]
    fork = [
        line("f1", None, "user", "q", "other", forkedFrom={"sessionId": "s"}),
        line("f2", "f1", "assistant", "a", "other"),
    ]
    answered = [ASKED, line("a1", "u1", "assistant", "Oiled.")]
    files = [written(tmp_path, events, f"{at}.jsonl") for at, events in enumerate((answered, helper, fork))]
    assert {record.session for file in files for record in imported(file)[0]} == {"claude-code/s"}
    talk = [said("user", "q"), said("assistant", "a")]
    first, child = meta(id="root"), meta(id="child", parent_thread_id="root", source={"subagent": {}})
    forked = [meta(id="fork", forked_from_id="root"), first, *talk, said("user", "q2"), said("assistant", "a2")]
    files = [
        written(tmp_path, events, f"{at}.jsonl") for at, events in enumerate(([first, *talk], [child, *talk], forked))
    ]
    assert {record.session for file in files for record in imported(file)[0]} == {"codex/root"}
    assert not any(imported(file)[1] for file in files)
    [record], _ = imported(files[2])
    assert [message.content for message in record.messages] == ["q", "a", "q2", "a2"]


def test_what_warms_up_a_cache_is_no_history(tmp_path: Path) -> None:
    warming = [
        line("w1", None, "user", "Warmup", isSidechain=True),
        line("w2", "w1", "assistant", "Ready!", isSidechain=True),
    ]
    records, faults = imported(written(tmp_path, [*warming, ASKED, line("a1", "u1", "assistant", "Oiled.")]))
    assert [record.messages[-1].content for record in records] == ["Oiled."] and not faults


def test_two_sessions_in_one_file_are_two_histories(tmp_path: Path) -> None:
    two = [
        meta(id="one"),
        said("user", "q"),
        said("assistant", "a"),
        meta(id="two"),
        said("user", "q"),
        said("assistant", "b"),
    ]
    assert [record.session for record in imported(written(tmp_path, two))[0]] == ["codex/one", "codex/two"]
    lines = [[REQUEST, {"kind": "response", "parts": [{"part_kind": "text", "content": name}]}] for name in "ab"]
    assert [record.session for record in imported(written(tmp_path, lines))[0]] == ["session-1/1", "session-1/2"]


def test_a_row_with_a_history_is_read_with_its_session(tmp_path: Path) -> None:
    messages = json.loads((SAMPLES / "pydantic_ai.json").read_text())
    [record], _ = imported(written(tmp_path, [{"id": "7", "message_history": messages, "meta": {}}]))
    assert record.session == "session-1/7" and record.messages[-1].content == "Fill the south tank first."
    events = json.loads((SAMPLES / "openhands.json").read_text())
    for resolved, thumb in ((True, "up"), (False, "down")):
        row = {"instance_id": "x", "history": events, "test_result": {"report": {"resolved": resolved}}}
        [record], _ = imported(written(tmp_path, [row]))
        assert record.feedback == thumb
    pairs = [[events[0], {"observation": "null", "content": "", "cause": 0}], *([event] for event in events[1:])]
    assert (
        transcript(imported(written(tmp_path, [{"history": pairs}]))[0][0])["messages"]
        == transcript(record)["messages"]
    )
    assert "test_result" in imported(written(tmp_path, [{"history": events, "test_result": {"git_patch": "x"}}]))[1][0]


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


def test_rows_that_have_fields_of_a_session_file_are_rows(tmp_path: Path) -> None:
    row = {
        "sessionId": "s",
        "uuid": "1",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    }
    records, faults = imported(written(tmp_path, [row, row | {"messages": []}]))
    assert len(records) == 1 and faults == ["messages are empty"]


def test_the_field_that_names_the_session_goes_before_the_historys_own_name(tmp_path: Path) -> None:
    chat = json.loads((SAMPLES / "langfuse.json").read_text())[2]
    file = written(tmp_path, [chat])
    defaults = ImportDefaults("x", "x-1", "scribe", None, session_by="name")
    [found] = parse_file(file, Format.AUTO, defaults)
    assert found.content and not isinstance(found.content, Fault) and found.content.records[0].session == "chat"


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


def long_session(turns: int, size: int, summary_at: int | None = None) -> list[dict[str, Any]]:
    """A session whose every turn has a call with a result of that size, and its answer."""
    events: list[dict[str, Any]] = []
    for turn in range(turns):
        last = events[-1]["uuid"] if events else None
        if turn == summary_at:
            events.append(line("next", last, "user", "Go on."))
            events.append(line("begun", "next", "assistant", [used("begun", command="x")]))
            events.append(line("begun result", "begun", "user", [result("begun", "x" * size)]))
            events.append(line("summary", "begun result", "user", "Summary: so far.", isCompactSummary=True))
            last = "summary"
        else:
            events.append(line(f"u{turn}", last, "user", f"Do {turn}."))
            last = f"u{turn}"
        events += [
            line(f"c{turn}", last, "assistant", [used(f"c{turn}", command=f"run {turn}")]),
            line(f"r{turn}", f"c{turn}", "user", [result(f"c{turn}", "x" * size)]),
            line(f"a{turn}", f"r{turn}", "assistant", f"Done {turn}."),
        ]
    return events


def test_a_long_history_is_cut_at_turns_of_the_user_and_every_answer_is_trained_once(tmp_path: Path) -> None:
    records, _ = imported(written(tmp_path, long_session(9, history.LONGEST // 3)))
    assert len(records) > 3 and len({record.id for record in records}) == len(records)
    assert {record.session for record in records} == {"claude-code/s"} and not any(record.parent for record in records)
    words = [said for record in records for said in trained(record).splitlines() if said]
    assert sorted(words) == sorted([*(f"Done {turn}." for turn in range(9)), *(f"run {turn}" for turn in range(9))])
    assert all(tokens(record) <= Lengths().row for record in records)
    context = [(message.role, message.content, message.weight) for message in records[1].messages[:2]]
    assert context == [("user", "Do 0.", None), ("assistant", "Done 0.", 0)]


def test_the_parts_of_a_history_of_many_short_turns_fit_in_a_row(tmp_path: Path) -> None:
    prompt = {"kind": "request", "parts": [{"part_kind": "system-prompt", "content": "Be brief. " * 1000}]}
    turns: list[dict[str, Any]] = [prompt]
    for turn in range(600):
        turns.append(
            {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": f"Do {turn}, bitte schön."}]}
        )
        turns.append({"kind": "response", "parts": [{"part_kind": "text", "content": f"Done {turn}."}]})
    records, _ = imported(written(tmp_path, [turns]))
    assert len(records) > 2 and all(tokens(record) <= Lengths().row for record in records)
    assert min(tokens(record) for record in records[:-1]) > Lengths().row * 0.95


def test_after_a_compaction_a_long_history_begins_with_its_summary(tmp_path: Path) -> None:
    records, _ = imported(written(tmp_path, long_session(7, history.LONGEST // 5, summary_at=3)))
    begun = [record.messages[0].content for record in records]
    assert begun == ["Do 0.", "Summary: so far."]
    words = "".join(map(trained, records))
    assert all(f"Done {turn}." in words for turn in range(7))
    assert not any(message.content == "Go on." for record in records for message in record.messages)
    short, _ = imported(written(tmp_path, long_session(4, 10, summary_at=2)))
    assert len(short) == 1


def test_one_turn_beyond_what_a_record_holds_is_refused(tmp_path: Path) -> None:
    events = [ASKED]
    for at in range(3):
        events += [
            line(f"c{at}", events[-1]["uuid"], "assistant", [used(f"c{at}", command="x")]),
            line(f"r{at}", f"c{at}", "user", [result(f"c{at}", "x" * 500_000)]),
        ]
    records, [why] = imported(written(tmp_path, [*events, line("end", "r2", "assistant", "Done.")]))
    assert not records and why == "a turn of the user is answered by more than 1 MiB"
