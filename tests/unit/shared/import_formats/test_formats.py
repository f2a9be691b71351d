"""Conversations in the formats of others become karma records; what cannot become one is reported precisely."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.karma import KarmaRecord, Status
from shared.import_formats.formats import Format, detect, read
from shared.import_formats.record import ImportDefaults, RecordError, tool_call_fault

DEFAULTS = ImportDefaults("talks", "talks-1", persona="scribe")
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = "there", **values: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **values}


def turn(who: str, value: Any) -> dict[str, Any]:
    return {"from": who, "value": value}


def imported(
    values: dict[str, Any], given: ImportDefaults = DEFAULTS, record_format: Format = Format.AUTO
) -> KarmaRecord:
    return read(values, record_format, given).records[-1]


def plain(record: KarmaRecord) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json", exclude_defaults=True) for message in record.messages]


@pytest.mark.parametrize(
    ("values", "record_format"),
    [
        ({"messages": [], "persona": "p"}, Format.KARMA),
        ({"persona": "p", "instruction": ""}, Format.KARMA),
        ({"messages": [], "tools": []}, Format.OPENAI),
        ({"conversations": []}, Format.SHAREGPT),
        ({"instruction": "", "output": ""}, Format.ALPACA),
    ],
)
def test_a_format_is_detected_by_its_fields(values: dict[str, Any], record_format: Format) -> None:
    assert detect(values) is record_format


def test_openai_messages_with_tools_are_taken_as_they_are() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        user(),
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
        assistant(),
    ]
    record = imported({"messages": messages, "tools": [TOOL], "parallel_tool_calls": False})
    assert plain(record) == messages and record.tools == (TOOL,)
    assert tool_call_fault(record.messages) is None


def test_openai_parts_are_joined_and_a_developer_speaks_as_the_system() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    record = imported({"messages": [{"role": "developer", "content": "x"}, user(parts), assistant()]})
    assert [message.role for message in record.messages] == ["system", "user", "assistant"]
    assert record.messages[1].content == "one\ntwo"


def test_openai_arguments_given_as_an_object_become_text() -> None:
    call = {**CALL, "function": {"name": "look", "arguments": {"at": "ü"}}}
    messages = [
        user(),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ]
    record = imported({"messages": [*messages, assistant()]})
    assert record.messages[1].tool_calls[0]["function"]["arguments"] == '{"at": "ü"}'
    assert tool_call_fault(record.messages) is None


def test_openais_older_functions_become_tools_and_paired_calls() -> None:
    messages = [
        user(),
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "blue"},
        assistant(),
    ]
    record = imported({"messages": messages, "functions": [{"name": "look"}]})
    assert record.tools == ({"type": "function", "function": {"name": "look"}},)
    assert record.messages[2].role == "tool" and tool_call_fault(record.messages) is None


def test_a_conversation_ends_with_its_last_answer() -> None:
    record = imported(
        {
            "messages": [
                user(),
                assistant("one"),
                user("and?"),
                assistant("two"),
                user("thanks"),
            ]
        }
    )
    assert [message.content for message in record.messages] == ["hi", "one", "and?", "two"]


@pytest.mark.parametrize("end", [assistant(None), assistant(None, refusal="I can't."), assistant(" ")])
def test_a_conversation_that_ends_in_nothing_or_a_refusal_is_not_cut_back(end: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match=r"no assistant answer|refusal"):
        imported({"messages": [user(), assistant("one"), user("and?"), end]})


@pytest.mark.parametrize("end", [{"role": "assistant", "tool_calls": [CALL]}, assistant("I look.", tool_calls=[CALL])])
def test_an_example_in_openais_form_may_end_in_a_call(end: dict[str, Any]) -> None:
    messages = [user(), assistant("one"), user("and?"), end]
    record = imported({"messages": messages, "tools": [TOOL]})
    assert plain(record) == messages and tool_call_fault(record.messages) is None


LOOK = {"role": "assistant", "tool_calls": [CALL]}
LOOKED = {"role": "tool", "tool_call_id": "c1", "content": "blue"}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"messages": [user(), LOOK, LOOKED]}, "ends in a tool call"),
        ({"messages": [user(), LOOK, user()]}, "ends in a tool call"),
        ({"messages": [user(), assistant(), user(), LOOK, assistant("no", weight=0)]}, "ends in a tool call"),
        ({"messages": [user(), LOOK | {"weight": 0}]}, "every answer has the weight 0"),
        ({"conversations": [turn("human", "x"), turn("function_call", '{"name": "look"}')]}, "ends in a tool call"),
        ({"prompt": [user()], "completion": [LOOK]}, "ends in a tool call"),
    ],
)
def test_a_call_that_is_no_deliberate_end_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        imported(values)


def test_an_answer_of_weight_0_is_not_the_end() -> None:
    record = imported({"messages": [user(), assistant("good", weight=1), user(), assistant("bad", weight=0)]})
    assert record.messages[-1].content == "good"
    with pytest.raises(RecordError, match="no assistant answer"):
        imported({"messages": [user(), assistant("bad", weight=0)]})


def test_sharegpt_turns_calls_and_observations_become_messages() -> None:
    values = {
        "conversations": [
            turn("human", "which?"),
            turn(
                "function_call", '[{"name": "look", "arguments": {"at": 1}}, {"name": "look", "arguments": {"at": 2}}]'
            ),
            turn("observation", "one"),
            turn("tool", "two"),
            turn("gpt", "both"),
        ],
        "system": "Be brief.",
        "tools": '[{"name": "look"}]',
    }
    record = imported(values)
    assert [message.role for message in record.messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [call["function"]["arguments"] for call in record.messages[2].tool_calls] == ['{"at": 1}', '{"at": 2}']
    assert record.tools == ({"type": "function", "function": {"name": "look"}},)
    assert tool_call_fault(record.messages) is None


def test_sharegpt_in_the_spelling_of_openai_is_read_too() -> None:
    assert plain(imported({"conversations": [user(), assistant()]})) == [user(), assistant()]


def test_alpaca_with_system_and_history_becomes_messages() -> None:
    values = {
        "instruction": "Add",
        "input": "1 and 2",
        "output": "3",
        "system": "Be brief.",
        "history": [["hi", "there"]],
    }
    assert plain(imported(values)) == [
        {"role": "system", "content": "Be brief."},
        user(),
        assistant(),
        user("Add\n\n1 and 2"),
        assistant("3"),
    ]
    assert plain(imported({"instruction": "Add", "input": "", "output": "3"})) == [user("Add"), assistant("3")]


def test_the_id_is_of_the_content_alone_so_that_it_is_the_same_again() -> None:
    one = imported({"messages": [user(), assistant()]})
    assert (
        one.id
        == imported({"messages": [user(), assistant()], "id": 7}, ImportDefaults("other", "other-1", "scribe", "me")).id
    )
    assert one.id == imported({"conversations": [turn("human", "hi"), turn("gpt", "there")]}).id
    assert len(one.id) == len("import-") + 16 and one.id.startswith("import-")
    others = (
        imported({"messages": [user(), assistant("no")]}),
        imported({"messages": [user(), assistant()]}, ImportDefaults("talks", "talks-1", "coder")),
    )
    assert len({one.id, *(other.id for other in others)}) == 3


def test_a_session_is_the_given_field_else_the_files_conversation_else_the_record() -> None:
    values: dict[str, Any] = {"messages": [user(), assistant()]}
    assert imported(values).session == imported(values).id
    assert imported(values | {"id": 7}).session == "talks-1/7"
    assert imported(values | {"id": 7, "conversation_id": "c"}).session == "talks-1/c"
    by_thread = ImportDefaults("talks", "talks-1", "scribe", session_by="thread")
    assert imported(values | {"id": 7, "thread": "t"}, by_thread).session == "t"
    for missing in ({}, {"thread": None}, {"thread": ["t"]}, {"thread": " "}):
        with pytest.raises(RecordError, match="--session-by"):
            imported(values | missing, by_thread)


def test_a_foreign_record_is_speculative_unless_somebody_vouches_for_it() -> None:
    assert imported({"messages": [user(), assistant()]}).status is Status.SPECULATIVE
    vouched = imported({"messages": [user(), assistant()]}, ImportDefaults("talks", "talks-1", "scribe", "me"))
    assert (vouched.status, vouched.consecrated_by) == (Status.WHITE_TRUTH, "me")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"messages": [user(), assistant()], "conversations": []}, None),
        ({"messages": []}, "messages are empty"),
        ({"messages": {}}, "messages: an object, not an array"),
        ({"messages": [user()]}, "no assistant answer"),
        ({"messages": [user(), assistant("  ")]}, "no assistant answer"),
        ({"messages": [user(), assistant(None, tool_calls=[])]}, "no assistant answer"),
        ({"messages": [{"role": "geheimnis", "content": "x"}]}, "messages.0.role: not one of"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages.0.role: not one of"),
        ({"messages": [{"content": "x"}]}, "messages.0.role: not one of"),
        ({"messages": [user(5), assistant()]}, "messages.0.content: a number, not an array"),
        ({"messages": [user(None), assistant()]}, "messages.0.content: missing"),
        (
            {"messages": [user([{"type": "image_url"}]), assistant()]},
            "messages.0.content.0: a part of type image_url is not",
        ),
        ({"messages": [user([{"type": "geheimnis"}]), assistant()]}, "a part of type unknown is not supported"),
        ({"messages": [user([{"type": ["text"]}]), assistant()]}, "a part of type unknown is not supported"),
        ({"messages": [user(), assistant(tool_calls="geheimnis")]}, "messages.1.tool_calls: text, not an array"),
        (
            {"messages": [user(), assistant(tool_calls=[{"id": "c"}])]},
            "messages.1.tool_calls.0.function: nothing, not an",
        ),
        ({"messages": [user(), assistant()], "tools": {"a": 1}}, "tools: an object, not an array"),
        ({"conversations": [turn("narrator", "x")]}, "conversations.0.from: not one of"),
        ({"conversations": [turn("human", 5)]}, "conversations.0.value: a number, not an array"),
        ({"conversations": [{"from": "human"}]}, "conversations.0.value: missing"),
        ({"conversations": [turn("function_call", "geheimnis")]}, "conversations.0.value: not JSON"),
        ({"conversations": [turn("function_call", "5")]}, "conversations.0.value: a number, not an object"),
        ({"conversations": [turn("human", "x")], "images": ["a.png"]}, "images: attachments are not supported"),
        ({"conversations": [turn("human", "x"), turn("gpt", "y")], "tools": "geheimnis"}, "tools: not JSON"),
        ({"conversations": []}, "messages are empty"),
        ({"instruction": "geheimnis"}, "no output"),
        ({"instruction": "geheimnis", "output": ""}, "no assistant answer: output is empty"),
        ({"instruction": "", "output": "geheimnis"}, "instruction and input are empty"),
        ({"instruction": 5, "output": "x"}, "instruction: a number, not text"),
        ({"instruction": "x", "output": "x", "history": [["x"]]}, "history.0: not a question and an answer"),
        ({"text": "geheimnis"}, "not in a known format"),
    ],
)
def test_what_is_wrong_is_reported_without_content(values: dict[str, Any], expected: str | None) -> None:
    if expected is None:
        assert imported(values)
        return
    with pytest.raises(RecordError, match=expected) as wrong:
        imported(values)
    assert "geheimnis" not in str(wrong.value)


@pytest.mark.parametrize("record_format", [Format.OPENAI, Format.SHAREGPT, Format.ALPACA])
def test_a_format_that_is_named_is_the_only_one_that_is_read(record_format: Format) -> None:
    with pytest.raises(RecordError, match=r"^no "):
        imported({"nothing": "of it"}, record_format=record_format)


def test_without_a_persona_it_is_reported_what_to_give() -> None:
    with pytest.raises(RecordError, match="--persona"):
        imported({"messages": [user(), assistant()]}, ImportDefaults("talks", "talks-1"))
