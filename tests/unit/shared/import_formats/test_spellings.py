"""Judgements, attachments and failures in other spellings and places than those that a format names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.contracts.karma import KarmaRecord
from shared.import_formats.formats import Format, read
from shared.import_formats.record import ImportDefaults, RecordError, tool_call_fault

DEFAULTS = ImportDefaults("talks", "talks-1", "scribe", "me", datetime(2026, 1, 1, tzinfo=UTC))
ASKED = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "GOOD"}
BAD = {"role": "assistant", "content": "BAD"}
MODEL = {"role": "model", "parts": [{"text": "GOOD"}]}
USER = {"role": "user", "parts": [{"text": "q"}]}


def records(values: dict[str, Any]) -> tuple[KarmaRecord, ...]:
    found = read(values, Format.AUTO, DEFAULTS).records
    assert not any(tool_call_fault(record.messages) for record in found)
    return found


def called(name: str, **values: Any) -> dict[str, Any]:
    return {"id": None, "type": "function", "function": {"name": name, "arguments": "{}"}, **values}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ({"metadata": {"label": "bad"}}, "metadata.label"),
        ({"meta": {"eval": {"is_correct": False}}}, "meta.is_correct"),
        ({"extra": {"score": 0}}, "extra.score"),
        ({"annotations": [{"rating": "worse"}]}, "annotations.rating"),
        ({"metadata": {"weight": 0}}, "metadata.weight"),
        ({"iscorrect": False}, "iscorrect"),
        ({"is_bad": True}, "is_bad"),
        ({"good": False}, "good"),
        ({"valid": "no"}, "valid"),
        ({"isTruncated": True}, "isTruncated"),
        ({"bad_output": "BAD"}, "bad_output"),
        ({"quality": "low"}, "quality"),
        ({"ground_truth": "other"}, "ground_truth"),
        ({"retrieved_contexts": ["The document."]}, "retrieved_contexts"),
        ({"level": "ERROR"}, "level"),
        ({"channel": "analysis"}, "channel"),
        ({"recipient": "python"}, "recipient"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_judgement_is_refused_by_its_name_in_any_spelling_and_among_notes(field: dict[str, Any], name: str) -> None:
    for values in ({"messages": [ASKED, GOOD], **field}, {"messages": [ASKED, GOOD | field]}):
        with pytest.raises(RecordError, match=name):
            records(values)


@pytest.mark.parametrize(
    "field",
    [
        {"metadata": {"revision_id": "a1", "ls_stop": ["x"], "labels": ["billing"], "label": None, "error": False}},
        {"meta": {"lang_score": 0.9, "verified_at": "2024-01-01"}},
        {"good": True, "is_bad": False, "valid": True, "hidden": 0},
        {"valid_from": "2024-01-01", "skip_special_tokens": True, "negative_prompt": "x", "keep_alive": "5m"},
        {"quality": "high", "verdict": "correct", "passed": "pass"},
        {"channel": "final", "level": "hard", "recipient": "all"},
        {"channel": "email", "text": "The whole prompt.", "language": "en"},
        {"annotations": [{"type": "url_citation", "url": "https://x.invalid"}]},
    ],
)
def test_notes_that_judge_nothing_change_nothing(field: dict[str, Any]) -> None:
    for values in ({"messages": [ASKED, GOOD], **field}, {"messages": [ASKED, GOOD | field]}):
        assert records(values)[0].messages[-1].content == "GOOD"


@pytest.mark.parametrize(
    "words",
    [
        "<|image|>What is it?",
        "<|image_1|>\nWhat is it?",
        "<image_0> What is it?",
        "What is it? <image 2>",
        "<ImageHere>What is it?",
        "<start_of_image>What is it?",
        "<|AUDIO|>",
        "Here ![a](data:image/png;base64,iVBORw0KGgo=) it is.",
    ],
)
def test_the_mark_of_an_attachment_is_seen_in_every_spelling(words: str) -> None:
    with pytest.raises(RecordError, match="the mark of an attachment"):
        records({"prompt": words, "completion": "A"})


def test_a_prompt_that_the_messages_begin_with_is_no_other_one() -> None:
    assert records({"prompt": "q", "messages": [ASKED, GOOD]})[0].messages[-1].content == "GOOD"
    with pytest.raises(RecordError, match="prompt: is part of the conversation"):
        records({"prompt": "q2", "messages": [ASKED, GOOD]})


def test_results_without_ids_go_to_the_calls_of_their_names() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [called("a"), called("b")]}
    results = [{"role": "tool", "name": name, "content": f"of {name}"} for name in ("b", "a")]
    [record] = records({"messages": [ASKED, calls, *results, GOOD]})
    names = {call["id"]: call["function"]["name"] for call in record.messages[1].tool_calls}
    assert [(names[one.tool_call_id or ""], one.content) for one in record.messages[2:4]] == [
        ("b", "of b"),
        ("a", "of a"),
    ]


def test_a_call_of_weight_0_is_not_trained_without_a_word() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [called("a", weight=0)]}
    with pytest.raises(RecordError, match="a call that is not to be trained"):
        records({"messages": [ASKED, calls, {"role": "tool", "content": "r"}, GOOD]})


def test_a_result_of_gemini_that_is_an_error_makes_its_call_context() -> None:
    call = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}
    for response, weight in (({"error": "no such site"}, 0), ({"output": 1, "error": ""}, None)):
        result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": response}}]}
        [record] = records({"contents": [USER, call, result, MODEL]})
        assert record.messages[1].weight == weight
        assert json.loads(record.messages[2].content or "") == response


def test_a_part_of_gemini_with_an_attachment_beside_its_text_is_refused() -> None:
    part = {"text": "What is it?", "inlineData": {"mimeType": "image/png", "data": "aGk="}}
    with pytest.raises(RecordError, match="a part that is no text"):
        records({"contents": [{"role": "user", "parts": [part]}, MODEL]})


@pytest.mark.parametrize("content", ["<think>Let me see.</think>\n", "<think>Let me"])
def test_a_thought_alone_is_no_answer(content: str) -> None:
    with pytest.raises(RecordError, match="no assistant answer"):
        records({"messages": [ASKED, {"role": "assistant", "content": content}]})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"chosen": [ASKED, GOOD], "rejected": [{"role": "user", "content": "q2"}, BAD]}, "another prompt"),
        ({"prompt": "q0", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, "another question"),
        ({"prompt": "q", "chosen": "GOOD", "rejected": " GOOD\n"}, "the same as the answer that was chosen"),
    ],
)
def test_two_answers_that_are_no_pair_are_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        records(values)


def test_a_whole_rejected_conversation_shares_no_calls_of_the_chosen_one() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [called("a")]}
    talk = [ASKED, call, {"role": "tool", "content": "r"}, GOOD]
    worse, _ = records({"messages": talk, "rejected_messages": [ASKED, BAD]})
    assert [message.content for message in worse.messages] == ["q", "BAD"]
