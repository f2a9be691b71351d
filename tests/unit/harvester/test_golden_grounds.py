"""What an answer rests on must be in its path: what is refused, and what counts as a failure or as an answer."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.harvester.golden_paths.fill import FOREIGN
from services.harvester.trajectories.path import rebuild
from services.harvester.trajectories.spans import Event, NoPathError
from tests.support.recorded_traces import recordings
from tests.unit.harvester.golden_tape import SYSTEM, USER, Tape, asking, call, got, saying

DEEP = saying("Nine metres.")
ASKED = [SYSTEM, USER]
RECORDED = recordings()
LANGCHAIN = {"type": "tool", "data": {"content": "9 m", "tool_call_id": "a", "status": "error"}}


def looked(result: str, **span: Any) -> Tape:
    """A run with one call; `span` changes the span of the tool."""
    tape = Tape()
    said = asking(call("a", at="sea"))
    tape.model(ASKED, said)
    tape.spans[-1:] = [tape.spans[-1], replace(tape.tool(result=result, at="sea"), **span)]
    tape.model([*ASKED, said, got("a", result)], DEEP)
    return tape


def last(tape: Tape, **attributes: Any) -> None:
    """Change the attributes of the last model call; None removes one."""
    span = tape.spans[-1]
    found = {**span.attributes, **{name.replace("__", "."): value for name, value in attributes.items()}}
    tape.spans[-1] = replace(span, attributes={name: value for name, value in found.items() if value is not None})


def test_a_result_without_an_id_answers_the_first_call_that_waits() -> None:
    tape = Tape()
    both = asking(call("a", at="sea"), call("b", at="lake"))
    tape.model(ASKED, both)
    tape.model([*ASKED, both, got("", "9 m"), got("", "2 m")], DEEP)

    messages = rebuild(tape.spans).messages

    assert [(message.tool_call_id, message.content) for message in messages[3:5]] == [("a", "9 m"), ("b", "2 m")]


def test_a_result_that_answers_no_recorded_call_leaves_no_path() -> None:
    tape = Tape()
    tape.model([*ASKED, got("a", "9 m")], DEEP)

    with pytest.raises(NoPathError, match="answers no recorded call"):
        rebuild(tape.spans)


@pytest.mark.parametrize("words", ["9 m", "Observation: 9 m", "Tool result:\n9 m"])
def test_a_result_in_the_users_words_leaves_no_path(words: str) -> None:
    tape = looked("9 m")
    tape.spans.pop()
    tape.model([*ASKED, saying("I look."), {"role": "user", "content": words}], DEEP)

    with pytest.raises(NoPathError, match="recorded as the user's words"):
        rebuild(tape.spans)


def test_a_transcript_of_results_in_the_users_words_leaves_no_path() -> None:
    tape = looked("9 m\nat low tide")
    tape.spans.pop()
    transcript = "How deep?\nAction: look\nObservation:  9 m\nat low tide\nThought:"
    tape.model([SYSTEM, {"role": "user", "content": transcript}], DEEP)

    with pytest.raises(NoPathError, match="recorded as the user's words"):
        rebuild(tape.spans)


def test_a_question_that_a_tool_fetched_is_the_users() -> None:
    tape = Tape()
    tape.tool("next_question", result=USER["content"])
    tape.model(ASKED, DEEP)

    assert rebuild(tape.spans).steps == 1


def test_what_the_user_says_of_a_result_is_the_users_words() -> None:
    tape = looked("9 m")
    story = [*ASKED, asking(call("a", at="sea")), got("a", "9 m"), DEEP, {"role": "user", "content": "Why 9 m?"}]
    tape.model(story, saying("It is dredged."))

    assert rebuild(tape.spans, "It is dredged.").messages[-2].content == "Why 9 m?"


def test_a_result_whose_words_were_lost_leaves_no_path() -> None:
    tape = looked("9 m")
    last(tape, llm__input_messages__3__message__content=None)

    with pytest.raises(NoPathError, match="is empty: its words were not recorded"):
        rebuild(tape.spans)


def test_a_tool_that_returned_nothing_is_believed() -> None:
    assert rebuild(looked("").spans).steps == 3


@pytest.mark.parametrize(("index", "role"), [(1, "user"), (2, "assistant")])
def test_a_message_without_words_leaves_no_path(index: int, role: str) -> None:
    tape = Tape()
    tape.model([*ASKED, saying("Wait."), USER], DEEP)
    last(tape, **{f"llm__input_messages__{index}__message__content": None})

    with pytest.raises(NoPathError, match=f"a message of the {role} in the trace is empty"):
        rebuild(tape.spans)


def test_thoughts_are_left_out() -> None:
    tape = Tape()
    tape.model([*ASKED, saying("Hm."), saying("Wait."), USER], DEEP)
    part = "llm.input_messages.2.message.contents.0.message_content"
    last(tape, **{"llm.input_messages.2.message.content": None, f"{part}.type": "reasoning", f"{part}.text": "Hm."})

    assert [message.content for message in rebuild(tape.spans).messages[2:4]] == ["Wait.", USER["content"]]


@pytest.mark.parametrize(
    "span",
    [
        {"status": "ERROR"},
        {"status": "UNSET", "events": (Event("exception"),)},
        {"attributes": {"tool.name": "look", "tool_call.id": "a", "error.type": "LookupError"}},
        {"attributes": {"tool.name": "look", "tool_call.id": "a", "pydantic_ai.tool.retry.cause": "model_retry"}},
        {"attributes": {"tool.name": "look", "tool_call.id": "a", "gen_ai.tool.status": "error"}},
        {"attributes": {"tool.name": "look", "tool_call.id": "a", "output.value": '{"is_error": true}'}},
        {"attributes": {"tool.name": "look", "output.value": json.dumps(LANGCHAIN)}},
    ],
    ids=["status", "exception", "error.type", "retry", "strands", "is_error", "langchain"],
)
def test_a_failure_is_known_by_what_is_recorded_of_it_whatever_the_words(span: dict[str, Any]) -> None:
    assert rebuild(looked("9 m").spans).steps == 3

    with pytest.raises(NoPathError, match="every tool call that the answer could rest on failed"):
        rebuild(looked("9 m", **span).spans)


@pytest.mark.parametrize(
    "words",
    [
        "builtins.KeyError: 'sea'",
        "Traceback (most recent call last):\n  File",
        "Tool error: no sea",
        "Error executing tool look: no sea",
        "An error occurred while running the tool. Please try again.",
        "Encountered error: no sea",
        "Tool look not found. Please select a tool that is available.",
        "Unknown tool name: 'look'. Available tools: 'map'",
        "I encountered an error while trying to use the tool. This was the error: no sea.",
        "<tool_use_error>no sea</tool_use_error>",
        "no sea\n\nFix the errors and try again.",
        "Error: LookupError('no sea')\n Please fix your mistakes.",
    ],
)
def test_a_failure_is_known_by_the_words_of_the_tools_in_use(words: str) -> None:
    tape = looked(words, status="UNSET")

    with pytest.raises(NoPathError, match="every tool call that the answer could rest on failed"):
        rebuild(tape.spans)


@pytest.mark.parametrize(
    ("tool", "arguments", "answer"),
    [
        ("final_answer", {"answer": "Nine metres."}, "Nine metres."),
        ("submit", {"text": "Nine metres."}, "Nine metres."),
        ("final_result", {"metres": 9, "sea": True}, '{"sea": true, "metres": 9}'),
        ("final_answer", {"answer": 9}, "9"),
    ],
)
def test_an_answer_in_a_tool_ends_the_path_in_its_words(tool: str, arguments: dict[str, Any], answer: str) -> None:
    tape = looked("9 m")
    tape.spans.pop()
    tape.model([*ASKED, asking(call("a", at="sea")), got("a", "9 m")], asking(call("z", tool, **arguments)))
    tape.tool(tool, result=answer, **arguments)

    path = rebuild(tape.spans, answer)

    assert [message.role for message in path.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert json.loads(json.dumps(path.messages[-1].content)) and not path.messages[-1].tool_calls
    assert path.messages[-1].content == (answer if len(arguments) == 1 else json.dumps(arguments))
    assert path.pruned == 0


def test_an_answer_in_words_wins_over_the_same_in_a_tool() -> None:
    tape = Tape()
    tape.model(ASKED, DEEP)
    tape.model([*ASKED, DEEP, USER], asking(call("z", "note", text="Nine metres.")))

    assert len(rebuild(tape.spans, "Nine metres.").messages) == 3


def test_a_root_that_vouches_for_an_answer_in_a_tool_ends_the_path_in_its_words() -> None:
    tape = Tape(answer="Answer: nine metres.")
    tape.model(ASKED, asking(call("z", "final_answer", answer="Nine metres."), content="I know."))

    assert rebuild(tape.spans, "Answer: nine metres.").messages[-1].content == "Nine metres."


def test_an_answer_that_the_agent_refused_is_pruned() -> None:
    tape = looked("9 m")
    tape.spans.pop()
    story = [*ASKED, asking(call("a", at="sea")), got("a", "9 m")]
    refused = asking(call("y", "final_result_Depth", metres="9"))
    tape.model(story, refused)
    tape.model([*story, refused, got("y", "metres is a number")], asking(call("z", "final_result_Depth", metres=9)))

    path = rebuild(tape.spans, '{"metres": 9}')

    assert [message.content for message in path.messages[3:]] == ["9 m", '{"metres": 9}']
    assert path.pruned == 2


def test_an_answer_that_needed_no_other_call_rests_on_none() -> None:
    tape = Tape()
    refused = asking(call("y", "final_answer", answer="Nine."))
    tape.model(ASKED, refused)
    tape.model([*ASKED, refused, got("y", "metres, please")], asking(call("z", "final_answer", answer="Nine metres.")))

    assert [message.role for message in rebuild(tape.spans, "Nine metres.").messages] == ["system", "user", "assistant"]


def test_arguments_that_a_tool_refused_are_a_failure() -> None:
    refused = [{"type": "missing", "loc": ["at"], "msg": "Field required", "input": {}}]

    with pytest.raises(NoPathError, match="every tool call that the answer could rest on failed"):
        rebuild(looked(json.dumps(refused), status="UNSET").spans)


def test_a_call_that_is_not_the_answer_ends_no_path() -> None:
    tape = Tape(answer="Answer: nine metres.")
    tape.model(ASKED, asking(call("z", "look", at="sea")))

    with pytest.raises(NoPathError, match="asks for tools and gives no answer"):
        rebuild(tape.spans, "Answer: nine metres.")


def test_a_tool_is_known_by_its_name_beside_the_bare_schema_of_its_parameters() -> None:
    tape = Tape()
    tape.model(ASKED, DEEP)
    last(tape, **{"llm.tools.0.tool.name": "look", "llm.tools.0.tool.json_schema": '{"type": "object"}'})

    function = {"name": "look", "parameters": {"type": "object"}}
    assert rebuild(tape.spans).tools == ({"type": "function", "function": function},)


def test_an_empty_system_prompt_is_left_out() -> None:
    tape = Tape()
    tape.model([{"role": "system", "content": ""}, USER], DEEP)

    assert [message.role for message in rebuild(tape.spans).messages] == ["user", "assistant"]


JUNK = [None, "", "[", "[]", "{}", "[[]]", '[{"role": 1}]', '[{"parts": 3}]', "1e999", 7, [], [None], "\x00", "user"]


@given(st.sampled_from(RECORDED), st.integers(0, 2**32), st.integers(1, 8))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_others_record_ends_one_path_and_nothing_else(recording: Any, seed: int, changes: int) -> None:
    draw = random.Random(seed)
    spans = recording.spans
    for _ in range(changes):
        index = draw.randrange(len(spans))
        span = spans[index]
        if span.attributes:
            name = draw.choice(sorted(span.attributes))
            spans[index] = replace(span, attributes={**span.attributes, name: draw.choice(JUNK)})
        if span.events:
            changed = [
                replace(each, attributes={n: draw.choice(JUNK) for n in each.attributes}) for each in span.events
            ]
            spans[index] = replace(spans[index], events=tuple(changed))
    try:
        path = rebuild(spans, recording.answer)
    except (NoPathError, *FOREIGN):
        return

    calls = [call["id"] for message in path.messages for call in message.tool_calls]
    assert calls == [message.tool_call_id for message in path.messages if message.role == "tool"]
    assert path.messages[-1].content


@pytest.mark.parametrize(
    "words",
    [
        "[look] 9 m",
        "<tool_response>9 m</tool_response>",
        "The tool returned 9 m.",
        "```\n9 m\n```",
        '{"tool": "look", "result": "9 m"}',
    ],
)
def test_a_result_in_the_users_words_is_seen_in_any_wrapping(words: str) -> None:
    tape = Tape()
    said = asking(call("a", at="sea"))
    tape.model([SYSTEM, USER], said)
    tape.tool(result="9 m", at="sea")
    tape.model([SYSTEM, USER, {"role": "user", "content": words}], saying("Nine metres."))

    with pytest.raises(NoPathError, match="recorded as the user's words"):
        rebuild(tape.spans, "Nine metres.")


def test_a_long_result_among_the_users_words_is_seen_and_a_question_about_a_short_one_is_none() -> None:
    long = "The sea is nine metres deep at the northern mole."
    for result, words, none in ((long, f"How deep is it?\n\nContext: {long}", True), ("9 m", "So 9 m? Sure?", False)):
        tape = Tape()
        said = asking(call("a", at="sea"))
        tape.model([SYSTEM, USER], said)
        tape.tool(result=result, at="sea")
        story = [SYSTEM, USER, said, got("a", result), saying("It is nine."), {"role": "user", "content": words}]
        tape.model(story, saying("Nine metres."))
        with pytest.raises(NoPathError, match="user's words") if none else nullcontext():
            rebuild(tape.spans, "Nine metres.")


@pytest.mark.parametrize("function", [{"name": "look", "arguments": "{bad"}, {"name": "", "arguments": "{}"}])
def test_a_call_that_no_template_can_write_leaves_no_path(function: dict[str, str]) -> None:
    tape = Tape()
    said = asking({"id": "a", "type": "function", "function": function})
    tape.model([SYSTEM, USER], said)
    tape.tool(result="9 m", at="sea")
    tape.model([SYSTEM, USER, said, got("a", "9 m")], saying("Nine metres."))

    with pytest.raises(NoPathError, match="no name, or arguments that are no JSON object"):
        rebuild(tape.spans, "Nine metres.")


def test_of_two_calls_that_gave_the_answer_the_one_that_was_asked_the_records_question_is_taken() -> None:
    tape = Tape()
    tape.model([SYSTEM, USER], saying("Nine metres."))
    tape.model([{"role": "user", "content": "Format this."}], saying("Nine metres."))

    assert rebuild(tape.spans, "Nine metres.", USER["content"]).messages[1].content == USER["content"]
    assert rebuild(tape.spans, "Nine metres.").messages[0].content == "Format this."


@pytest.mark.parametrize(
    ("words", "failed"),
    [
        ('{"status": "error", "message": "x"}', True),
        ('{"status": "error", "pump": "north"}', False),
        ('{"ok": false}', True),
        ('{"success": "false"}', True),
        ("Tool execution was not approved.", True),
        ("The tool call was denied.", True),
        ("User rejected the tool call for `look` with id a", True),
    ],
)
def test_a_refusal_or_a_report_of_failure_is_a_failed_call(words: str, failed: bool) -> None:
    tape = Tape()
    bad, good = asking(call("a", at="see")), asking(call("b", at="sea"))
    tape.model([SYSTEM, USER], bad)
    tape.model([SYSTEM, USER, bad, got("a", words)], good)
    tape.tool(result="9 m", at="sea")
    tape.model([SYSTEM, USER, bad, got("a", words), good, got("b", "9 m")], saying("Nine metres."))

    kept = [call for message in rebuild(tape.spans, "Nine metres.").messages for call in message.tool_calls]
    assert len(kept) == 2 - failed
