"""What led to the accepted answer is trained, what belongs together is one session, and a long history is cut into rows.

The samples in `histories/` are made up, in the form in which each tool writes its files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.harvester.policy import Lengths
from shared.contracts.karma import KarmaRecord, Status, trained_turns
from shared.import_formats import history
from shared.import_formats.formats import Format
from shared.import_formats.parser import Fault, parse_file
from shared.import_formats.record import ImportDefaults
from tests.support.histories import ASKED, REQUEST, imported, line, meta, result, said, transcript, used, written

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


def test_a_history_begins_when_its_first_line_was_written() -> None:
    assert str(imported(SAMPLES / "codex.jsonl")[0][0].created_at) == "2026-03-02 10:00:01+00:00"


def test_a_file_whose_format_is_named_is_read_whatever_it_begins_with(tmp_path: Path) -> None:
    notes = [{"type": "mode", "mode": "normal"} for _ in range(30)]
    file = written(tmp_path, [*notes, ASKED, line("a1", "u1", "assistant", "Oiled.")])
    assert imported(file, Format.CLAUDE_CODE)[0] and not imported(file)[0]


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
            {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": f"Do {turn}, bitte schön. " * 4}]}
        )
        turns.append({"kind": "response", "parts": [{"part_kind": "text", "content": f"Done {turn}."}]})
    records, _ = imported(written(tmp_path, [turns]))
    assert len(records) > 2 and all(tokens(record) <= Lengths().row for record in records)
    assert min(tokens(record) for record in records[:-1]) > Lengths().row * 0.95
    assert {record.messages[1].role for record in records} == {"user"}


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
