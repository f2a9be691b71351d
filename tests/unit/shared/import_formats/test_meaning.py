"""A field that changes what a record means is understood, or refused by its name; others are counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.contracts.karma import KarmaRecord, Status
from shared.import_formats.formats import Format, Imported, read
from shared.import_formats.record import ImportDefaults, RecordError, tool_call_fault

DEFAULTS = ImportDefaults("talks", "talks-1", "scribe", "me")
ASKED = {"role": "user", "content": "Oil the gate."}
GOOD = {"role": "assistant", "content": "GOOD"}
WRONG = {"role": "assistant", "content": "WRONG"}


def call(identity: str, site: str) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": "tank", "arguments": json.dumps({"site": site})}}


def result(identity: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": content}


def imported(values: dict[str, Any]) -> Imported:
    found = read(values, Format.AUTO, DEFAULTS)
    assert not any(tool_call_fault(record.messages) for record in found.records)
    return found


def one(values: dict[str, Any]) -> KarmaRecord:
    [record] = imported(values).records
    return record


def said(record: KarmaRecord) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in record.messages]


@pytest.mark.parametrize("name", ["label", "kto_tag", "feedback", "thumb", "rating"])
@pytest.mark.parametrize(("value", "thumb"), [("good", "up"), (-1, "down"), ("up", "up"), ("thumbs_down", "down")])
def test_a_thumb_is_kept_with_the_record(name: str, value: object, thumb: str) -> None:
    assert one({"messages": [ASKED, WRONG], name: value}).feedback == thumb
    assert one(
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], name: value}
    ).feedback
    assert one({"prompt": "q", "completion": "a", name: value}).feedback == thumb


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rating": 3}, "rating: neither up nor down"),
        ({"rating": 0}, "rating: neither up nor down"),
        ({"rating": 1}, "rating: neither up nor down"),
        ({"feedback": {"type": "x"}}, "feedback: an object, neither up nor down"),
        ({"label": True, "feedback": "down"}, "thumbs that contradict"),
        ({"score": 4.5}, "score: changes what a record means"),
        ({"reward": -1}, "reward: changes what a record means"),
        ({"images": ["a.png"]}, "images: attachments are not supported"),
        ({"files": ["a.txt"]}, "files: attachments are not supported"),
        ({"weight": 0}, "weight 0: its owner excludes it"),
        ({"weight": 0.5}, "weight: a weight is 0 or 1"),
        ({"train": False}, "weight 0: its owner excludes it"),
        ({"chosen": GOOD}, "chosen: without the answer that was rejected"),
        ({"rejected": WRONG}, "rejected: without the answer that was chosen"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_name(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        imported({"messages": [ASKED, GOOD], **values})


@pytest.mark.parametrize("name", ["weight", "loss_weight", "train", "training", "loss"])
@pytest.mark.parametrize("off", [0, 0.0, False])
def test_a_turn_of_weight_0_is_never_trained(name: str, off: object) -> None:
    bye = {"role": "user", "content": "bye"}
    assert said(one({"messages": [ASKED, GOOD, bye, WRONG | {name: off}, bye]}))[-1] == ("assistant", "GOOD")
    with pytest.raises(RecordError, match="every answer has the weight 0"):
        imported({"messages": [ASKED, WRONG | {name: off}, bye]})
    turns = [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "GOOD"},
        {"from": "gpt", "value": "W", name: off},
    ]
    assert said(one({"conversations": turns}))[-1] == ("assistant", "GOOD")
    record = one(
        {
            "messages": [
                ASKED,
                {"role": "assistant", "content": None, "tool_calls": [call("c1", "nowhere")], name: off},
                result("c1", "LookupError: nowhere"),
                {"role": "assistant", "content": None, "tool_calls": [call("c2", "North")]},
                result("c2", "4200"),
                {"role": "assistant", "content": "4200 litres."},
            ]
        }
    )
    assert [message.weight for message in record.messages] == [None, 0, None, None, None, None]


def test_weights_of_users_are_no_instruction_to_train_them() -> None:
    assert one({"messages": [ASKED | {"loss_weight": 0.0}, GOOD | {"loss_weight": 1.0}]}).messages[-1].weight == 1
    with pytest.raises(RecordError, match="only what the assistant wrote"):
        imported({"messages": [ASKED | {"weight": 1}, GOOD]})
    with pytest.raises(RecordError, match="weights that contradict"):
        imported({"messages": [ASKED, GOOD | {"weight": 1, "train": False}]})


def test_an_earlier_answer_with_a_thumb_down_is_not_trained() -> None:
    record = one({"messages": [ASKED, WRONG | {"feedback": "down"}, ASKED, GOOD]})
    assert [message.weight for message in record.messages] == [None, 0, None, None]


PAIRS: dict[str, dict[str, Any]] = {
    "TRL": {"prompt": "Oil the gate.", "chosen": "GOOD", "rejected": "WRONG"},
    "TRL, messages": {"prompt": [ASKED], "chosen": [GOOD], "rejected": [WRONG]},
    "TRL, no prompt": {"chosen": [ASKED, GOOD], "rejected": [ASKED, WRONG]},
    "TRL, both": {"prompt": "Oil the gate.", "chosen": [ASKED, GOOD], "rejected": [ASKED, WRONG]},
    "LLaMA-Factory": {
        "conversations": [{"from": "human", "value": "Oil the gate."}],
        "chosen": {"from": "gpt", "value": "GOOD"},
        "rejected": {"from": "gpt", "value": "WRONG"},
    },
    "LLaMA-Factory, alpaca": {"instruction": "Oil the gate.", "input": "", "chosen": "GOOD", "rejected": "WRONG"},
    "LLaMA-Factory, OpenAI": {"messages": [ASKED], "chosen": GOOD, "rejected": WRONG},
    "ms-swift": {"messages": [ASKED, GOOD], "rejected_response": "WRONG"},
    "ms-swift, messages": {"messages": [ASKED, GOOD], "rejected_messages": [ASKED, WRONG]},
    "OpenAI": {
        "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [GOOD],
        "non_preferred_output": [WRONG],
    },
    "axolotl": {"question": "Oil the gate.", "chosen": "GOOD", "rejected": "WRONG"},
}


@pytest.mark.parametrize("values", PAIRS.values(), ids=PAIRS)
def test_a_preference_pair_is_an_answer_that_corrects_another(values: dict[str, Any]) -> None:
    worse, better = imported(values).records
    assert said(better) == [("user", "Oil the gate."), ("assistant", "GOOD")]
    assert said(worse) == [("user", "Oil the gate."), ("assistant", "WRONG")]
    assert (better.parent, better.session, better.status) == (worse.id, worse.session, Status.WHITE_TRUTH)
    assert (worse.feedback, worse.status, worse.consecrated_by) == ("down", Status.SPECULATIVE, None)


def test_the_answer_before_the_chosen_one_is_no_answer() -> None:
    turns = [{"from": "human", "value": "q1"}, {"from": "gpt", "value": "earlier"}, {"from": "human", "value": "q2"}]
    answers = {"chosen": {"from": "gpt", "value": "CHOSEN"}, "rejected": {"from": "gpt", "value": "REJECTED"}}
    worse, better = imported({"conversations": turns, **answers}).records
    assert said(better)[1:] == [("assistant", "earlier"), ("user", "q2"), ("assistant", "CHOSEN")]
    assert said(worse)[-1] == ("assistant", "REJECTED")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"chosen": "a", "rejected": "b"}, "an answer without the prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "the same as the answer that was chosen"),
        ({"prompt": "q", "chosen": 5, "rejected": "a"}, "chosen: a number, no answer"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "label": True, "feedback": "down"}, "contradict"),
    ],
)
def test_half_a_pair_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        imported(values)


def test_anthropics_messages_are_read_with_system_calls_and_results() -> None:
    weather = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Ghent"}}
    record = one(
        {
            "system": [{"type": "text", "text": "Answer as a pirate."}],
            "messages": [
                {"role": "user", "content": "weather?"},
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look."}, weather],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "12C"}]},
                        {"type": "text", "text": "And?"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "12 degrees."}]},
            ],
            "tools": [{"name": "get_weather", "description": "d", "input_schema": {"type": "object"}}],
        }
    )
    assert said(record) == [
        ("system", "Answer as a pirate."),
        ("user", "weather?"),
        ("assistant", "I look."),
        ("tool", "12C"),
        ("user", "And?"),
        ("assistant", "12 degrees."),
    ]
    [made] = record.messages[2].tool_calls
    assert made["function"] == {"name": "get_weather", "arguments": '{"city": "Ghent"}'}
    assert record.tools[0]["function"] == {"name": "get_weather", "description": "d", "parameters": {"type": "object"}}


def test_items_of_the_responses_api_are_read() -> None:
    record = one(
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Tank?"}]},
                {"type": "reasoning", "summary": []},
                {"type": "function_call", "call_id": "c1", "name": "tank", "arguments": '{"site": "North"}'},
                {"type": "function_call", "call_id": "c2", "name": "tank", "arguments": '{"site": "South"}'},
                {"type": "function_call_output", "call_id": "c1", "output": "4200"},
                {"type": "function_call_output", "call_id": "c2", "output": "17"},
            ],
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4217."}]}],
            "tools": [{"type": "function", "name": "tank", "parameters": {}}],
        }
    )
    assert [role for role, _ in said(record)] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert len(record.messages[2].tool_calls) == 2 and record.tools[0]["function"]["name"] == "tank"
    with pytest.raises(RecordError, match=r"input\.0\.type: not one of"):
        imported({"input": [{"type": "computer_call"}], "output": []})


def test_geminis_contents_are_read() -> None:
    record = one(
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Tank?"}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "hm", "thought": True},
                        {"functionCall": {"name": "tank", "args": {"site": "N"}}},
                    ],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "tank", "response": {"litres": 4200}}}]},
                {"role": "model", "parts": [{"text": "4200."}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "tank", "parameters": {}}]}],
        }
    )
    assert said(record)[0] == ("system", "Be brief.") and said(record)[-1] == ("assistant", "4200.")
    assert said(record)[3] == ("tool", '{"litres": 4200}')
    with pytest.raises(RecordError, match="no text is not supported"):
        imported({"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]})


def test_a_system_prompt_given_twice_is_refused() -> None:
    with pytest.raises(RecordError, match="system: given twice"):
        imported({"system": "One.", "messages": [{"role": "system", "content": "Two."}, ASKED, GOOD]})


def test_roles_and_parts_of_other_tools_are_read() -> None:
    parts = [{"type": "text", "value": "hi"}]
    assert said(one({"messages": [{"role": "human", "content": parts}, {"role": "ai", "content": "GOOD"}]})) == [
        ("user", "hi"),
        ("assistant", "GOOD"),
    ]


def test_a_label_of_false_is_a_thumb_down() -> None:
    assert one({"messages": [ASKED, WRONG], "label": False}).feedback == "down"


def test_what_changes_nothing_is_counted_by_its_name() -> None:
    found = imported({"messages": [ASKED | {"mood": 1}, GOOD], "model": "x", "id": 1, "created": 1.7e9})
    assert found.unread == {"mood", "model"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("created_at", "2026-11-20T08:00:00Z", datetime(2026, 11, 20, 8, tzinfo=UTC)),
        ("timestamp", "2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("create_time", 1763625600.5, datetime(2025, 11, 20, 8, 0, 0, 500000, tzinfo=UTC)),
        ("created", 1763625600000, datetime(2025, 11, 20, 8, tzinfo=UTC)),
        ("time", "noon", None),
        ("time", 1e30, None),
    ],
)
def test_the_time_of_a_conversation_is_kept(name: str, value: object, expected: datetime | None) -> None:
    assert one({"messages": [ASKED, GOOD], name: value}).created_at == expected


TURN = {"role": "user", "content": "and?"}
GEMINI = [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "OLD"}]}]
OLD = {"role": "assistant", "content": "OLD"}


@pytest.mark.parametrize(
    "field",
    [
        {"train_detail": [{"begin_offset": 0, "train": False}]},
        {"training_detail": [{"train": False}]},
        {"trainable": False},
        {"loss_mask": 0},
        {"score": -1},
        {"annotation": {"rating": -1}},
        {"deleted": True},
        {"error": {"content": "overloaded"}},
        {"done": False},
        {"finish_reason": "length"},
        {"thumbs_down": True},
        {"user_feedback": "negative"},
        {"liked": False},
        {"isCorrect": False},
        {"image_url": "a.png"},
        {"experimental_attachments": [{"name": "a"}]},
    ],
    ids=lambda field: next(iter(field)),
)
def test_a_field_that_judges_what_it_belongs_to_is_refused_wherever_it_is(field: dict[str, Any]) -> None:
    name = next(iter(field))
    part = {"type": "text", "text": "GOOD"}
    for values in (
        {"messages": [ASKED, GOOD], **field},
        {"messages": [ASKED, GOOD | field]},
        {"messages": [ASKED, {"role": "assistant", "content": [part | field]}]},
        {"prompt": [ASKED], "completion": [GOOD | field]},
        {"prompt": [ASKED], "chosen": [GOOD | field], "rejected": [WRONG]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", **field}]},
    ):
        with pytest.raises(RecordError, match=name):
            imported(values)


@pytest.mark.parametrize(
    "field",
    [
        {"finish_reason": "stop"},
        {"done": True},
        {"error": None},
        {"deleted": False},
        {"generated_at": 1},
        {"model": "m"},
    ],
)
def test_a_field_that_reports_a_good_end_changes_nothing(field: dict[str, Any]) -> None:
    assert one({"messages": [ASKED, GOOD | field], **field}).messages[-1].content == "GOOD"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"messages": [ASKED, OLD, TURN], "response": "REAL"}, "response"),
        ({"messages": [ASKED, OLD, TURN], "choices": [{"message": GOOD}]}, "choices"),
        ({"contents": GEMINI, "candidates": [1]}, "candidates"),
        ({"messages": [ASKED, GOOD], "system_prompt": "Be brief."}, "system_prompt"),
        ({"messages": [ASKED, GOOD], "instructions": "Be brief."}, "instructions"),
        ({"question": "q", "answer": "a", "context": "The document."}, "context"),
        ({"instruction": "q", "output": "a", "tools": "[]" * 2}, "tools"),
        ({"prompt": "q", "history": [["a", "b"]], "chosen": "c", "rejected": "d"}, "history"),
        ({"question": "q", "input": "more", "chosen": "c", "rejected": "d"}, "input"),
        ({"input": "q", "output": [GOOD], "previous_response_id": "r1"}, "previous_response_id"),
        ({"input": [ASKED, OLD, TURN], "output": [{"type": "reasoning"}]}, "output"),
        ({"input": [ASKED], "output": [GOOD], "status": "incomplete"}, "status"),
        ({"input": "q", "output": [GOOD], "tools": [{"type": "web_search_preview"}]}, "no function"),
        ({"prompt": "\n\nHuman: hi\n\nAssistant:", "completion": "a"}, "a whole conversation in one text"),
        ({"messages": [{"role": "user", "content": "<image>What is it?"}, GOOD]}, "attachment"),
        ({"messages": [ASKED, GOOD], "chosen": "GOOD", "rejected": "B"}, "ends in an answer already"),
        ({"messages": [ASKED], "rejected_response": "B"}, "no answer"),
    ],
    ids=range(17),
)
def test_what_belongs_to_the_conversation_is_not_left_out(values: dict[str, Any], name: str) -> None:
    with pytest.raises(RecordError, match=name):
        imported(values)


def test_a_system_prompt_beside_whole_conversations_is_kept() -> None:
    system = {"role": "system", "content": "Be brief."}
    for values in (
        {"system": "Be brief.", "prompt": "Oil the gate.", "chosen": [ASKED, GOOD], "rejected": [ASKED, WRONG]},
        {"prompt": [system, ASKED], "chosen": [ASKED, GOOD], "rejected": [ASKED, WRONG]},
    ):
        worse, better = imported(values).records
        assert said(better)[0] == said(worse)[0] == ("system", "Be brief.")
        assert said(better)[1:] == [("user", "Oil the gate."), ("assistant", "GOOD")]


def test_an_answer_of_several_turns_goes_on_after_its_prompt() -> None:
    chosen = [{"role": "assistant", "content": "C1"}, TURN, GOOD]
    _, better = imported({"prompt": [ASKED], "chosen": chosen, "rejected": [WRONG]}).records
    assert [content for _, content in said(better)] == ["Oil the gate.", "C1", "and?", "GOOD"]


def test_either_output_of_a_preference_may_be_a_call() -> None:
    outputs: list[dict[str, Any]] = [
        {"role": "assistant", "tool_calls": [call("c1", site)]} for site in ("North", "South")
    ]
    north, south = outputs
    tools = [{"type": "function", "function": {"name": "tank"}}]
    prompt = {"messages": [ASKED], "tools": tools}
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [(north, south), (north, WRONG), (GOOD, north)]
    for better, worse in pairs:
        given = {"input": prompt, "preferred_output": [better], "non_preferred_output": [worse]}
        made = imported(given).records
        calls = [[one["function"] for one in record.messages[-1].tool_calls] for record in made]
        assert calls == [[one["function"] for one in end.get("tool_calls", ())] for end in (worse, better)]
        assert (made[1].parent, made[1].tools) == (made[0].id, tuple(tools))


def test_a_call_is_not_better_than_the_same_under_another_id() -> None:
    better, worse = ([{"role": "assistant", "tool_calls": [call(id, "North")]}] for id in ("c1", "c2"))
    with pytest.raises(RecordError, match="the same as the answer that was chosen"):
        imported({"messages": [ASKED], "chosen": better, "rejected": worse})


def test_calls_without_ids_are_joined_in_their_order() -> None:
    calls = [{"function": {"name": "tank", "arguments": {"site": site}}} for site in ("North", "South")]
    results = [{"role": "tool", "name": "tank", "content": amount} for amount in ("4200", "17")]
    record = one(
        {"messages": [ASKED, {"role": "assistant", "tool_calls": calls}, *results, GOOD], "tools": '[{"name": "tank"}]'}
    )
    ids = [made["id"] for made in record.messages[1].tool_calls]
    assert [message.tool_call_id for message in record.messages[2:4]] == ids and record.tools[0]["function"][
        "name"
    ] == "tank"


def test_a_conversation_in_openais_spelling_keeps_its_calls() -> None:
    with pytest.raises(RecordError, match="ends in a tool call"):
        imported(
            {"conversation": [ASKED, {"role": "assistant", "content": "I open it.", "tool_calls": [call("c", "N")]}]}
        )


def test_results_of_gemini_go_to_the_calls_of_their_ids() -> None:
    calls: list[dict[str, Any]] = [{"functionCall": {"id": id, "name": "tank", "args": {}}} for id in ("1", "2")]
    results = [{"functionResponse": {"id": id, "name": "tank", "response": {"n": id}}} for id in ("2", "1")]
    record = one(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": calls},
                {"role": "user", "parts": results},
                {"role": "model", "parts": [{"text": "Ans"}, {"text": "wer"}]},
            ]
        }
    )
    assert [(message.tool_call_id, message.content) for message in record.messages[2:4]] == [
        ("2", '{"n": "2"}'),
        ("1", '{"n": "1"}'),
    ]
    assert record.messages[-1].content == "Answer"


def test_an_empty_last_turn_of_gemini_is_not_cut_back_to_an_earlier_answer() -> None:
    turns = [*GEMINI, {"role": "user", "parts": [{"text": "r"}]}]
    endings: list[list[dict[str, Any]]] = [[], [{"text": "hm", "thought": True}]]
    for parts in endings:
        with pytest.raises(RecordError, match="the last message of the assistant is empty"):
            imported({"contents": [*turns, {"role": "model", "parts": parts}]})


def test_a_stored_response_is_no_record_of_our_own() -> None:
    stored = {
        "id": "resp_1",
        "status": "completed",
        "input": "q",
        "output": [{"type": "message", **GOOD}],
        "model": "m",
    }
    assert said(one(stored)) == [("user", "q"), ("assistant", "GOOD")]
    call_ = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "weight": 0}
    record = one(
        {"input": [ASKED, call_, {"type": "function_call_output", "call_id": "c", "output": "x"}], "output": [GOOD]}
    )
    assert record.messages[1].weight == 0


def test_two_corrections_of_one_answer_are_two_records() -> None:
    first = imported({"prompt": "q", "chosen": "A", "rejected": "B"}).records
    second = imported({"prompt": "q", "chosen": "A", "rejected": "C"}).records
    assert len({record.id for record in (*first, *second)}) == 4
