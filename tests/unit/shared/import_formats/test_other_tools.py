"""What the example files of training and tracing tools hold means the same after its import, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contracts.karma import KarmaRecord
from shared.import_formats.formats import Format, read
from shared.import_formats.record import ImportDefaults, RecordError, tool_call_fault

DEFAULTS = ImportDefaults("talks", "talks-1", "scribe", "me")
ASKED = {"role": "user", "content": "How full?"}
GOOD = {"role": "assistant", "content": "4200"}
TANK = json.dumps({"name": "tank", "arguments": {"site": "north"}})


def records(values: dict[str, Any]) -> tuple[KarmaRecord, ...]:
    found = read(values, Format.AUTO, DEFAULTS).records
    assert not any(tool_call_fault(record.messages) for record in found)
    return found


def said(record: KarmaRecord) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in record.messages]


@pytest.mark.parametrize(
    "values",
    [
        {"query": "<img>https://x.invalid/a.jpg</img>What is it?", "response": "A"},
        {"query": "What is <img>/a/b.png</img> here?", "response": "A"},
        {"query": "q", "response": "A", "history": [["<audio>a.wav</audio>", "B"]]},
        {"instruction": "<image>", "input": "What is it?", "output": "A"},
        {"instruction": "Look", "input": "<image>", "output": "A"},
        {"prompt": "<image>What is it?", "chosen": "A", "rejected": "B"},
        {"messages": [{"role": "user", "content": "See <video>a.mp4</video> now"}, GOOD]},
    ],
)
def test_the_mark_of_an_attachment_is_seen_in_every_form(values: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="the mark of an attachment"):
        records(values)


def test_a_tag_in_the_text_of_a_page_is_no_attachment() -> None:
    words = "Why does <video>Your browser has none</video> or <img src='a.png'> fail?"
    assert said(*records({"messages": [{"role": "user", "content": words}, GOOD]}))[0] == ("user", words)


@pytest.mark.parametrize(
    "values",
    [
        {
            "messages": [
                ASKED,
                {"role": "tool_call", "content": TANK},
                {"role": "tool_call", "content": TANK.replace("north", "south")},
                {"role": "tool_response", "content": "4200"},
                {"role": "tool_response", "content": "1100"},
                GOOD,
            ]
        },
        {
            "conversations": [
                {"from": "human", "value": "How full?"},
                {"from": "function_call", "value": TANK},
                {"from": "function_call", "value": TANK.replace("north", "south")},
                {"from": "observation", "value": "4200"},
                {"from": "observation", "value": "1100"},
                {"from": "gpt", "value": "4200"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "How full?"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "both"},
                        {"type": "tool_call", "value": TANK},
                        {"type": "tool_call", "value": TANK.replace("north", "south")},
                    ],
                },
                {"role": "tool", "content": [{"type": "text", "value": "4200"}]},
                {"role": "tool", "content": [{"type": "text", "value": "1100"}]},
                {"role": "assistant", "content": [{"type": "text", "value": "4200"}]},
            ]
        },
    ],
    ids=["ms-swift", "ShareGPT", "LLaMA-Factory v1"],
)
def test_calls_made_at_once_are_one_turn_with_its_results(values: dict[str, Any]) -> None:
    [record] = records(values)
    [asking] = [message for message in record.messages if message.tool_calls]
    assert [call["function"]["arguments"] for call in asking.tool_calls] == ['{"site": "north"}', '{"site": "south"}']
    results = [(message.tool_call_id, message.content) for message in record.messages if message.role == "tool"]
    assert results == list(zip([call["id"] for call in asking.tool_calls], ["4200", "1100"], strict=True))


def test_a_pair_of_whole_conversations_is_a_correction() -> None:
    worse, better = records({"chosen_messages": [ASKED, GOOD], "rejected_messages": [ASKED, GOOD | {"content": "17"}]})
    assert (said(worse)[-1][1], said(better)[-1][1], better.parent) == ("17", "4200", worse.id)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"article": "Long.", "question": "q", "answer": "a"}, "article: is part"),
        ({"instruction": "i", "output": "o", "reflection": "wrong"}, "reflection: changes"),
        ({"instruction": "i", "output": "o", "corrected": "p"}, "corrected: changes"),
        ({"messages": [ASKED, GOOD], "resolved": False}, "resolved: changes"),
        ({"messages": [ASKED, GOOD], "failed": True}, "failed: changes"),
    ],
)
def test_a_field_that_holds_or_judges_the_answer_is_not_left_out(values: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        records(values)
    assert records({"messages": [ASKED, GOOD], "resolved": True, "failed": False})


def test_a_call_whose_result_is_marked_as_an_error_is_not_trained() -> None:
    def use(identity: str) -> dict[str, Any]:
        return {"role": "assistant", "content": [{"type": "tool_use", "id": identity, "name": "tank", "input": {}}]}

    def result(identity: str, failed: bool) -> dict[str, Any]:
        part = {"type": "tool_result", "tool_use_id": identity, "content": "x", "is_error": failed}
        return {"role": "user", "content": [part]}

    [record] = records({"messages": [ASKED, use("c1"), result("c1", True), use("c2"), result("c2", False), GOOD]})
    assert [message.weight for message in record.messages] == [None, 0, None, None, None, None]


def constructor(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


@pytest.mark.parametrize(
    "values",
    [
        {"inputs": {"question": "How full?"}, "outputs": {"answer": "4200"}},
        {"inputs": {"messages": [ASKED]}, "outputs": {"output": GOOD}},
        {"inputs": {"messages": [[constructor("HumanMessage", content="How full?")]]}, "outputs": {"messages": [GOOD]}},
        {
            "inputs": {"input": "How full?"},
            "outputs": {"generations": [[{"text": "4200", "message": constructor("AIMessage", content="4200")}]]},
        },
        {"inputs": {"messages": [ASKED]}, "outputs": {"choices": [{"message": GOOD, "finish_reason": "stop"}]}},
        {"input": "How full?", "expectedOutput": GOOD, "status": "ACTIVE"},
        {"input": {"messages": [ASKED]}, "output": {"messages": [GOOD]}},
        {"messages": [ASKED], "ideal": "4200"},
        {"input": [ASKED], "ideal": "4200"},
        {"input": "How full?", "output": "4200", "observations": [{"type": "GENERATION"}], "scores": []},
    ],
)
def test_examples_of_tracing_tools_are_read(values: dict[str, Any]) -> None:
    assert said(*records(values)) == [("user", "How full?"), ("assistant", "4200")]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"input": "q", "expectedOutput": "a", "status": "ARCHIVED"}, "status: the example is not active"),
        ({"input": "q", "output": "a", "scores": [{"name": "right", "value": 0}]}, "scores: changes"),
        (
            {"input": "q", "output": "a", "observations": [{"type": "TOOL", "name": "tank"}]},
            "observations: the trace ran",
        ),
        ({"inputs": {"a": "x", "b": "y"}, "outputs": {"answer": "z"}}, "inputs: 2 fields"),
        ({"inputs": {"messages": [ASKED], "context": "y"}, "outputs": {"answer": "z"}}, "inputs.context: is part"),
        ({"inputs": {"question": "q"}, "outputs": {"generations": [{"text": "a"}, {"text": "b"}]}}, "several answers"),
        (
            {"inputs": {"messages": [ASKED]}, "outputs": {"choices": [{"message": GOOD, "finish_reason": "length"}]}},
            "finish_reason: changes",
        ),
        ({"inputs": {"question": "q"}, "outputs": {"messages": [GOOD, ASKED]}}, "outputs ends in no message"),
        ({"inputs": {"question": "q"}, "outputs": {"score": 0.5}}, "outputs.score: a number, no message"),
    ],
)
def test_an_example_that_is_no_conversation_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        records(values)


def test_calls_that_a_langchain_message_names_twice_are_read_once() -> None:
    named = {"type": "tool_use", "id": "c1", "name": "tank", "input": {}}
    made = {"name": "tank", "args": {}, "id": "c1"}
    asking = {"type": "ai", "content": [{"type": "text", "text": "I look."}, named], "tool_calls": [made]}
    result = {"type": "tool", "content": "4200", "tool_call_id": "c1", "name": "tank"}
    outputs = {
        "messages": [{"type": "human", "content": "How full?"}, asking, result, {"type": "ai", "content": "4200"}]
    }
    [record] = records({"inputs": {"messages": [ASKED]}, "outputs": outputs})
    assert said(record) == [("user", "How full?"), ("assistant", "I look."), ("tool", "4200"), ("assistant", "4200")]
    assert [call["id"] for call in record.messages[1].tool_calls] == ["c1"]


def chat(*messages: dict[str, Any]) -> dict[str, Any]:
    """A chat of Open WebUI, each message under the one before it."""
    tree = {
        str(at): {"id": str(at), "parentId": str(at - 1) if at else None, **message}
        for at, message in enumerate(messages)
    }
    return {"id": "c1", "chat": {"history": {"messages": tree, "currentId": str(len(messages) - 1)}}}


def test_a_chat_of_open_webui_ends_at_its_current_message_with_the_thumb_of_that() -> None:
    bad = {"role": "assistant", "content": "17", "annotation": {"rating": -1}}
    [record] = records(chat(ASKED, bad, ASKED, GOOD | {"annotation": {"rating": 1}}))
    assert (record.session, record.feedback) == ("open-webui/c1", "up")
    assert [message.weight for message in record.messages] == [None, 0, None, None]
    [disliked] = records(chat(ASKED, bad))
    assert disliked.feedback == "down"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "user", "content": "q", "files": [{"type": "image"}]}, "files: attachments"),
        (
            {"role": "assistant", "content": '<details type="tool_calls" done="true">x</details>\nA'},
            "calls that are written",
        ),
        ({"role": "assistant", "content": "A", "done": False}, "interrupted"),
        ({"role": "assistant", "content": "A", "sources": [{"document": ["x"]}]}, "sources: the answer rests"),
        ({"role": "assistant", "content": "A", "error": {"content": "no model"}}, "interrupted"),
    ],
)
def test_a_chat_that_cannot_be_kept_is_refused(message: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        records(chat(ASKED, message))


def test_feedback_that_names_no_message_or_thumb_is_refused() -> None:
    given = {
        "type": "rating",
        "data": {"rating": 1},
        "meta": {"message_id": "1"},
        "snapshot": {"chat": chat(ASKED, GOOD)},
    }
    assert records(given)[0].feedback == "up"
    wrong: list[dict[str, Any]] = [{"data": {"rating": 0}}, {"meta": {}}, {"meta": {"message_id": "7"}}]
    for each in wrong:
        with pytest.raises(RecordError, match=r"rating: neither|no message with the id"):
            records(given | each)
