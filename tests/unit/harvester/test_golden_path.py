"""Golden paths: what is kept of a trace, what is pruned, and what cannot be rebuilt."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.harvester.golden_paths.phoenix import read_span
from services.harvester.trajectories.path import GoldenPath, rebuild
from services.harvester.trajectories.spans import NoPathError
from shared.contracts.karma import ChatMessage, KarmaRecord
from tests.unit.harvester.golden_tape import SYSTEM, USER, Tape, asking, call, got, saying

DEEP = saying("Nine metres.")
ASKED = [SYSTEM, USER]


def plain(path: GoldenPath) -> list[dict[str, Any]]:
    """The messages, as OpenAI's client would take them."""
    return [
        {"role": message.role, "content": message.content}
        | ({"tool_call_id": message.tool_call_id} if message.tool_call_id else {})
        | ({"tool_calls": list(message.tool_calls)} if message.tool_calls else {})
        for message in path.messages
    ]


def test_a_run_without_a_detour_is_kept_whole() -> None:
    tape = Tape()
    story = [*ASKED, asking(call("a", at="sea"))]
    tape.model(ASKED, story[-1])
    tape.tool(result="9 m", at="sea")
    story.append(got("a", "9 m"))
    tape.model(story, DEEP)

    path = rebuild(tape.spans, "Nine metres.")

    assert plain(path) == [*story, DEEP]
    assert (path.steps, path.pruned) == (3, 0)
    assert [tool["function"]["name"] for tool in path.tools] == ["look"]


def test_a_failed_call_goes_with_its_result_and_the_words_that_announced_it() -> None:
    tape = Tape()
    first, second = asking(call("a", at="see"), content="Let me look."), asking(call("b", at="sea"))
    tape.model(ASKED, first)
    tape.tool(status="ERROR", at="see")
    tape.model([*ASKED, first, got("a", "gone")], second)
    tape.tool(result="9 m", at="sea")
    tape.model([*ASKED, first, got("a", "gone"), second, got("b", "9 m")], DEEP)

    path = rebuild(tape.spans, "Nine metres.")

    assert plain(path) == [*ASKED, second, got("b", "9 m"), DEEP]
    assert path.pruned == 2


def test_of_calls_made_together_the_good_ones_stay() -> None:
    tape = Tape()
    both = asking(call("a", "map"), call("b", at="sea"), content="Two looks.")
    tape.model(ASKED, both)
    tape.tool("map", status="ERROR")
    tape.tool(result="9 m", at="sea")
    tape.model([*ASKED, both, got("a", "no map"), got("b", "9 m")], DEEP)

    path = rebuild(tape.spans)

    assert plain(path) == [*ASKED, asking(call("b", at="sea"), content="Two looks."), got("b", "9 m"), DEEP]
    assert path.pruned == 1


def test_the_same_call_twice_keeps_the_one_that_succeeded_also_under_the_same_id() -> None:
    tape = Tape()
    said = asking(call("call_0", at="sea"))
    tape.model(ASKED, said)
    tape.tool(status="ERROR", at="sea")
    tape.model([*ASKED, said, got("call_0", "timeout")], said)
    tape.tool(result="9 m", at="sea")
    tape.model([*ASKED, said, got("call_0", "timeout"), said, got("call_0", "9 m")], DEEP)

    assert plain(rebuild(tape.spans)) == [*ASKED, said, got("call_0", "9 m"), DEEP]


def test_a_tool_that_tried_again_by_itself_is_judged_by_its_last_try() -> None:
    tape = Tape()
    said = asking(call("a", at="sea"))
    tape.model(ASKED, said)
    tape.tool(status="ERROR", at="sea")
    tape.tool(result='{"depth": 9}', at="sea")
    tape.model([*ASKED, said, got("a", '{"depth":9}')], DEEP)

    path = rebuild(tape.spans)

    assert plain(path) == [*ASKED, said, got("a", '{"depth":9}'), DEEP]
    assert path.pruned == 1


def test_a_tool_that_rewrote_its_result_is_judged_by_its_last_try() -> None:
    tape = Tape()
    said = asking(call("a", at="sea"))
    tape.model(ASKED, said)
    tape.tool(status="ERROR", at="sea")
    tape.tool(result="9 m", at="sea")
    tape.model([*ASKED, said, got("a", "The tool says: 9 m")], DEEP)

    assert rebuild(tape.spans).steps == 3


def test_a_span_that_holds_only_its_name_still_tells_of_the_failure() -> None:
    tape = Tape()
    bad, good = asking(call("a", "map", at="see")), asking(call("b", at="sea"))
    tape.model(ASKED, bad)
    tape.tool("map", status="ERROR")
    tape.model([*ASKED, bad, got("a", "gone")], good)
    tape.tool(result="9 m", at="sea")
    tape.model([*ASKED, bad, got("a", "gone"), good, got("b", "9 m")], DEEP)

    assert plain(rebuild(tape.spans)) == [*ASKED, good, got("b", "9 m"), DEEP]


def test_a_result_belongs_to_the_latest_call_of_its_id() -> None:
    tape = Tape()
    lost, heard = asking(call("call_0", at="lake")), asking(call("call_0", at="sea"))
    tape.model(ASKED, lost)
    tape.tool(status="ERROR", at="lake")
    tape.model([*ASKED, lost, USER], heard)
    tape.tool(result="9 m", at="sea")
    tape.model([*ASKED, lost, USER, heard, got("call_0", "9 m")], DEEP)

    assert plain(rebuild(tape.spans)) == [*ASKED, USER, heard, got("call_0", "9 m"), DEEP]


def test_calls_without_ids_get_some() -> None:
    tape = Tape()
    both = asking(call("", at="sea"), call("", at="lake"))
    tape.model(ASKED, both)
    tape.tool(result="9 m", at="sea")
    tape.tool(result="2 m", at="lake")
    tape.model([*ASKED, both, got("", "9 m"), got("", "2 m")], DEEP)

    named = asking(call("call_0", at="sea"), call("call_1", at="lake"))
    assert plain(rebuild(tape.spans)) == [*ASKED, named, got("call_0", "9 m"), got("call_1", "2 m"), DEEP]


def test_of_several_that_gave_the_answer_the_one_nearest_to_the_root_counts() -> None:
    tape = Tape()
    tape.model(ASKED, DEEP)
    tape.model([USER], DEEP, parent=tape.agent("Nine metres."))

    assert plain(rebuild(tape.spans, "Nine metres.")) == [*ASKED, DEEP]


def test_a_call_whose_result_was_never_recorded_leaves_no_path() -> None:
    tape = Tape()
    said = asking(call("a", at="sea"), call("b", at="lake"))
    tape.model(ASKED, said)
    tape.tool(result="9 m", at="sea")
    tape.tool(result="2 m", at="lake")
    tape.model([*ASKED, said, got("a", "9 m")], DEEP)

    with pytest.raises(NoPathError, match="a tool call in the trace has no recorded result"):
        rebuild(tape.spans)


def test_an_agent_whose_answer_was_thrown_away_leaves_nothing() -> None:
    tape = Tape()
    aside = tape.agent("Three.")
    tape.model(ASKED, asking(call("x")), parent=aside)
    tape.tool(result="3 m", parent=aside)
    tape.model([*ASKED, asking(call("x")), got("x", "3 m")], saying("Three."), parent=aside)
    tape.model(ASKED, DEEP)

    path = rebuild(tape.spans, "Nine metres.")

    assert plain(path) == [*ASKED, DEEP]
    assert path.pruned == 3


def test_an_agent_that_was_called_as_a_tool_is_one_step() -> None:
    tape = Tape()
    said = asking(call("a", "ask_diver", place="sea"))
    tape.model(ASKED, said)
    diver = tape.tool("ask_diver", result="9 m", place="sea")
    tape.spans[-1] = diver = replace(diver, ended_at=diver.started_at.replace(second=50))
    tape.model([USER], saying("9 m"), parent=diver)
    end = tape.model([*ASKED, said, got("a", "9 m")], DEEP)
    tape.spans[-1] = replace(end, started_at=diver.ended_at, ended_at=diver.ended_at.replace(second=55))

    path = rebuild(tape.spans)

    assert plain(path) == [*ASKED, said, got("a", "9 m"), DEEP]
    assert path.pruned == 0


def test_of_parallel_samples_the_one_that_was_consecrated_ends_the_path() -> None:
    tape = Tape()
    tape.model(ASKED, saying("Eight."), DEEP, saying("Ten."))

    assert plain(rebuild(tape.spans, "Nine metres.")) == [*ASKED, DEEP]


def test_what_the_root_gave_back_wins_over_what_was_said_last() -> None:
    tape = Tape(answer="Nine metres.")
    tape.model(ASKED, DEEP)
    tape.model([USER], saying("A title for this chat"))

    assert plain(rebuild(tape.spans)) == [*ASKED, DEEP]


def test_a_model_call_that_failed_is_no_outcome() -> None:
    tape = Tape()
    tape.model(ASKED, DEEP)
    tape.model(ASKED, status="ERROR")

    path = rebuild(tape.spans)

    assert plain(path) == [*ASKED, DEEP]
    assert path.pruned == 1


@pytest.mark.parametrize(
    "result",
    [
        '{"error": "gone"}',
        '{"isError": true}',
        '{"success": false}',
        "Error: gone",
        "KeyError: 'x'",
        "Error executing tool look: x",
    ],
)
def test_a_result_that_says_it_failed_is_believed_without_a_span(result: str) -> None:
    tape = Tape()
    bad, good = asking(call("a", "map")), asking(call("b"))
    tape.model(ASKED, bad)
    tape.model([*ASKED, bad, got("a", result)], good)
    tape.model([*ASKED, bad, got("a", result), good, got("b", "9 m")], DEEP)

    path = rebuild(tape.spans)

    assert plain(path) == [*ASKED, good, got("b", "9 m"), DEEP]
    assert path.pruned == 2


@pytest.mark.parametrize(("again", "kept"), [("log", ["b"]), ("look", ["a", "b"])])
def test_error_words_from_a_tool_that_says_ok_count_only_where_it_was_called_again(again: str, kept: list[str]) -> None:
    tape = Tape()
    first, second = asking(call("a", "log", path="x")), asking(call("b", again, path="y"))
    tape.model(ASKED, first)
    tape.tool("log", result="Error: disk full", path="x")
    tape.model([*ASKED, first, got("a", "Error: disk full")], second)
    tape.tool(again, result="9 m", path="y")
    tape.model([*ASKED, first, got("a", "Error: disk full"), second, got("b", "9 m")], DEEP)

    assert [message.tool_call_id for message in rebuild(tape.spans).messages if message.role == "tool"] == kept


def test_where_the_server_kept_the_conversation_it_is_put_together_from_the_calls_before() -> None:
    tape = Tape()
    tape.model(ASKED, asking(call("a", at="sea")))
    tape.tool(result="9 m", at="sea")
    tape.model([SYSTEM, got("a", "9 m")], DEEP)

    assert plain(rebuild(tape.spans)) == [*ASKED, asking(call("a", at="sea")), got("a", "9 m"), DEEP]


def test_tool_calls_that_stand_one_by_one_become_one_message() -> None:
    tape = Tape()
    one, two = asking(call("a", at="sea")), asking(call("b", at="lake"))
    tape.model(ASKED, one, two)
    tape.tool(result="9 m", at="sea")
    tape.tool(status="ERROR", at="lake")
    tape.model([*ASKED, one, two, got("a", "9 m"), got("b", "dry")], DEEP)

    assert plain(rebuild(tape.spans)) == [*ASKED, one, got("a", "9 m"), DEEP]


def test_earlier_turns_of_the_conversation_stay() -> None:
    before = [
        SYSTEM,
        USER,
        asking(call("old")),
        got("old", "8 m"),
        saying("Eight."),
        {"role": "user", "content": "Sure?"},
    ]
    tape = Tape()
    tape.model(before, DEEP)

    path = rebuild(tape.spans)

    assert plain(path) == [*before, DEEP]
    assert path.pruned == 0


def test_an_answer_that_rests_on_failed_calls_alone_is_no_path() -> None:
    tape = Tape()
    said = asking(call("a"))
    tape.model(ASKED, said)
    tape.tool(status="ERROR")
    tape.model([*ASKED, said, got("a", "gone")], DEEP)

    with pytest.raises(NoPathError, match="every tool call that the answer could rest on failed"):
        rebuild(tape.spans)


def test_an_answer_that_the_trace_did_not_give_is_no_path() -> None:
    tape = Tape(answer="Nine metres.")
    tape.model(ASKED, DEEP)

    with pytest.raises(NoPathError, match="no model call of the trace gave the record's answer"):
        rebuild(tape.spans, "Ten metres.")


def test_a_root_that_wraps_the_answer_vouches_for_the_last_call() -> None:
    tape = Tape(answer="Answer: nine metres.")
    tape.model(ASKED, DEEP)

    assert plain(rebuild(tape.spans, "Answer: nine metres.")) == [*ASKED, DEEP]


@pytest.mark.parametrize(
    ("heard", "said", "problem"),
    [
        ([SYSTEM], [DEEP], "asked by no user message"),
        (ASKED, [asking(call("a"))], "asks for tools and gives no answer"),
        ([{"role": "narrator", "content": "secret"}], [DEEP], "a role that a chat does not know"),
        ([{"role": "user", "content": "__REDACTED__"}], [DEEP], "recorded with its content masked"),
    ],
)
def test_what_cannot_be_rebuilt_says_why_without_content(heard: Any, said: Any, problem: str) -> None:
    tape = Tape()
    tape.model(heard, *said)

    with pytest.raises(NoPathError, match=problem) as caught:
        rebuild(tape.spans)

    assert not any(word in str(caught.value) for word in ("secret", "narrator", "Nine"))


def test_a_trace_without_a_model_call_is_no_path() -> None:
    with pytest.raises(NoPathError, match="no model call that succeeded"):
        rebuild(Tape().spans)


def test_messages_that_the_recorder_dropped_are_noticed() -> None:
    tape = Tape()
    span = tape.model(ASKED, DEEP)
    left = {name: value for name, value in span.attributes.items() if not name.startswith("llm.input_messages.0")}
    tape.spans[-1] = replace(span, attributes=left)

    with pytest.raises(NoPathError, match="OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        rebuild(tape.spans)


@pytest.mark.parametrize(("attributes", "whole"), [(126, True), (127, False), (128, True)])
def test_a_model_call_with_as_many_attributes_as_opentelemetry_keeps_may_have_lost_some(
    attributes: int, whole: bool
) -> None:
    row = {
        "context": {"span_id": "a"},
        "parent_id": None,
        "name": "ChatCompletion",
        "span_kind": "LLM",  # an attribute, too
        "status_code": "OK",
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:00:01Z",
        "attributes": {f"llm.input_messages.{number}.message.role": "user" for number in range(attributes)},
        "events": [],
    }

    with nullcontext() if whole else pytest.raises(NoPathError, match="OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        read_span(row)


def test_parts_of_a_message_are_joined_and_pictures_refused() -> None:
    tape = Tape()
    span = tape.model([SYSTEM], DEEP)
    parts = {
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": "How deep",
        "llm.input_messages.1.message.contents.1.message_content.type": "text",
        "llm.input_messages.1.message.contents.1.message_content.text": "is it?",
    }
    tape.spans[-1] = replace(span, attributes={**span.attributes, **parts})
    assert rebuild(tape.spans).messages[1].content == "How deep\nis it?"

    parts["llm.input_messages.1.message.contents.1.message_content.type"] = "image"
    tape.spans[-1] = replace(span, attributes={**span.attributes, **parts})
    with pytest.raises(NoPathError, match="more than text"):
        rebuild(tape.spans)


# How a call may end, and whether it is good.
ENDS = {"ok": True, "unseen": True, "span error": False, "flag": False, "words": False, "unheard": False, "lost": True}
LOST = "l"  # how the id of a call begins whose result is not recorded


@st.composite
def runs(draw: st.DrawFn) -> tuple[Tape, set[str], set[str]]:
    """A run of an agent with forks that it throws away; the ids of its good and of its bad calls."""
    tape, story, good, bad = Tape(), list(ASKED), set(), set()
    for number in range(draw(st.integers(0, 5))):
        ends = draw(st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=4))
        calls = [
            (call(f"{LOST if end == 'lost' else 'c'}{number}-{index}", f"t{index}", n=number), end)
            for index, end in enumerate(ends)
        ]
        said = asking(*(each for each, _ in calls), content=draw(st.sampled_from([None, "Hm."])))
        tape.model(story, said)
        story.append(said)
        for each, end in calls:
            (good if ENDS[end] else bad).add(each["id"])
            if result := play(tape, each, end):
                story.append(got(each["id"], result))
        if draw(st.booleans()):
            fork(tape, story, f"f{number}")
            bad.add(f"f{number}")
    tape.model(story, DEEP)
    return tape, good, bad


def play(tape: Tape, asked: dict[str, Any], end: str) -> str | None:
    name, arguments = asked["function"]["name"], json.loads(asked["function"]["arguments"])
    match end:
        case "ok" | "lost":
            tape.tool(name, result="fine", **arguments)
        case "span error" | "unheard":
            tape.tool(name, status="ERROR", **arguments)
        case "flag":
            tape.tool(name, result='{"error": "no"}', **arguments)
    return {"flag": '{"error": "no"}', "words": "Error: no", "span error": "no", "unheard": None, "lost": None}.get(
        end, "fine"
    )


def fork(tape: Tape, story: list[dict[str, Any]], id: str) -> None:
    aside = tape.agent()
    tape.model(story, asking(call(id, "t0", n=-1)), parent=aside)
    tape.tool("t0", result="other", parent=aside, n=-1)


@given(runs(), st.randoms(use_true_random=False))
def test_every_kept_call_has_its_result_and_nothing_pruned_is_left(
    run: tuple[Tape, set[str], set[str]], shuffler: random.Random
) -> None:
    tape, good, bad = run
    spans = shuffler.sample(tape.spans, len(tape.spans))
    last_calls = [each for each in tape.spans if each.kind == "LLM"]
    try:
        path = rebuild(spans, "Nine metres.")
    except NoPathError:
        assert (bad and not good) or any(id.startswith(LOST) for id in good)
        return

    asked = [each["id"] for message in path.messages for each in message.tool_calls]
    heard = [message.tool_call_id for message in path.messages if message.role == "tool"]
    assert asked == heard and set(asked) == good
    assert not any(id in message.model_dump_json() for message in path.messages for id in bad)
    assert path.pruned >= len(bad) and path.steps <= len(last_calls) + len(good)
    assert path == rebuild(tape.spans, "Nine metres.")
    KarmaRecord(id="k", persona="p", session="s", messages=path.messages, tools=path.tools)
    assert path.messages[:2] == tuple(ChatMessage.model_validate(message) for message in ASKED)
