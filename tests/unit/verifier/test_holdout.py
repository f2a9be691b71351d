"""The sealed holdout as the evaluator reads, renders and asks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.verifier.evaluator.holdout import (
    HoldoutItem,
    read_holdout,
    rendered_answer,
    rendered_full_prompt,
    rendered_prompt,
    score,
    shown,
    with_prompts,
)
from shared.contracts.checks import Contains
from shared.contracts.verify import Arm
from shared.jobs.result_writer import InputError
from tests.unit.forge.letters import GOLDEN, PLAIN, TOOLS, Letters, Tooled, call


def values(name: str, session: str = "s", **changes: Any) -> dict[str, Any]:
    return {"id": name, "session": session, "messages": list(PLAIN), "checks": []} | changes


def write(folder: Path, *shards: list[dict[str, Any]]) -> Path:
    (folder / "holdout").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    for number, shard in enumerate(shards):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shard)
        (folder / "holdout" / f"{number:05}.jsonl").write_text(text, encoding="utf-8")
    return folder


def golden(name: str = "g") -> dict[str, Any]:
    return values(name, messages=list(GOLDEN), tools=list(TOOLS))


def test_the_items_of_all_shards_are_read_in_order(tmp_path: Path) -> None:
    items = read_holdout(write(tmp_path, [values("b"), values("a")], [golden()]))
    assert [item.id for item in items] == ["b", "a", "g"]
    assert [item.tools for item in items] == [(), (), TOOLS]


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        ([], "has no items"),
        ([[values("a")], [values("a")]], "has an id twice"),
        ([[values("a")], [values("b"), {"id": "c"}]], "holdout/00001.jsonl line 2 is not an item: session"),
        ([[values("a", messages=list(PLAIN[:2]))]], "holdout/00000.jsonl line 1: item a does not end"),
    ],
)
def test_an_unusable_holdout_is_refused_by_place(tmp_path: Path, shards: list[Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_holdout(write(tmp_path, *shards))
    assert said in str(refusal.value)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, [values("a")], [values("b")])
    (folder / "holdout" / "00000.jsonl").unlink()
    with pytest.raises(InputError, match=r"should continue with 00000\.jsonl"):
        read_holdout(folder)


def test_an_item_is_asked_with_its_tools_and_without_its_system_prompt() -> None:
    item = HoldoutItem.model_validate(golden())
    prompt = "tools>look$\nuser>ask$\nassistant>look(at)$\ntool>found$\nassistant>"
    assert rendered_prompt(Tooled(), item) == prompt
    assert rendered_answer(Tooled(), item) == "answer$"


def calling(*calls: tuple[str, dict[str, Any]], **changes: Any) -> HoldoutItem:
    made = [call(name, arguments) for name, arguments in calls]
    return HoldoutItem.model_validate(
        golden() | {"messages": [*GOLDEN[:2], GOLDEN[2] | {"tool_calls": made}]} | changes
    )


def passed(item: HoldoutItem, reference: str, answer: str) -> bool | None:
    nll = dict.fromkeys(Arm, 1.0)
    arms = score(item, nll, {Arm.BASE: reference, Arm.CANDIDATE: answer}, reference).arms
    assert arms[Arm.BASE].passed is True
    return arms[Arm.CANDIDATE].passed


def test_an_item_may_end_in_a_call(tmp_path: Path) -> None:
    [item] = read_holdout(write(tmp_path, [golden() | {"messages": list(GOLDEN[:3])}]))
    assert rendered_prompt(Tooled(), item) == "tools>look$\nuser>ask$\nassistant>"
    assert rendered_answer(Tooled(), item) == "look(at)$"
    assert shown(Tooled(), [item]) == ([item], {})


HERMES = '<call>{"name": "look", "arguments": {"at": 1, "far": {"name": "{", "arguments": 0}}}</call>'


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (HERMES, True),
        ('I look. <call>{"arguments":{"far":{"arguments":0,"name":"{"},"at":1},"name":"look"}</call>', True),
        ('<call>{"name": "look", "arguments": {"at": 2, "far": {"name": "{", "arguments": 0}}}</call>', False),
        ('<call>{"name": "run", "arguments": {"at": 1, "far": {"name": "{", "arguments": 0}}}</call>', False),
        (HERMES + HERMES, False),
        ('<call>{"name": "look", "arguments": {"at": 1', False),
        ("I look.", False),
    ],
)
def test_a_call_is_right_by_its_name_and_arguments(answer: str, right: bool) -> None:
    assert passed(calling(("look", {"at": 1, "far": {"name": "{", "arguments": 0}})), HERMES, answer) is right


def test_calls_of_one_turn_may_come_in_any_order_and_under_either_name_of_their_arguments() -> None:
    item = calling(("look", {"at": 1}), ("run", {}))
    reference = '[{"name": "look", "parameters": {"at": 1}}, {"name": "run", "parameters": {}}]'
    other = '[{"name": "run", "parameters": {}}, {"name": "look", "parameters": {"at": 1}}]'
    assert passed(item, reference, other) and not passed(item, reference, other[:-30])


@pytest.mark.parametrize(
    ("answer", "right"),
    [("<f=look>\n<p=name>\n{}\n</p>", True), ("<f=look> <p=name>\n[]\n</p>", False), ('{"name": "look"}', False)],
)
def test_calls_in_another_form_than_json_are_compared_as_text(answer: str, right: bool) -> None:
    assert passed(calling(("look", {"name": {}})), "<f=look>\n<p=name> {} </p>", answer) is right


def test_checks_of_the_owner_go_before_the_comparison_of_calls() -> None:
    item = calling(("look", {"at": 1}), checks=(Contains(text="look").model_dump(),))
    assert passed(item, HERMES, "I look.") is True


def test_who_chose_an_item_and_why_is_not_shown_to_the_model() -> None:
    stated = {"why": "it was right", "evidence": "the lamp is lit", "consecrated_by": "ida"}
    assert HoldoutItem.model_validate(golden() | stated) == HoldoutItem.model_validate(golden())


def test_a_template_without_its_own_prompt_before_the_answer_is_refused() -> None:
    with pytest.raises(InputError, match="without its own prompt"):
        rendered_answer(Letters(drops_history=True), HoldoutItem.model_validate(values("a")))


def test_items_that_the_base_cannot_show_are_left_out_with_the_reason() -> None:
    items = [HoldoutItem.model_validate(row) for row in (values("a"), golden())]
    assert shown(Tooled(), items) == (items, {})
    assert shown(Letters(), items) == (items[:1], {"g": "the chat template drops its tool calls"})
    with pytest.raises(InputError, match="no item can be rendered for this base: the chat template drops"):
        shown(Letters(), items[1:])


class Unprompted(Letters):
    """Drops system prompts without a word."""

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        return super().text([message for message in conversation if message["role"] != "system"], tools, opens)


class Refusing(Letters):
    """Refuses system prompts, as Gemma 2's does."""

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        if any(message["role"] == "system" for message in conversation):
            raise ValueError("System role not supported")
        return super().text(conversation, tools, opens)


SPOKEN = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}]
PROMPTED = [{"role": "system", "content": "Be short."}, *SPOKEN]


def test_items_are_asked_with_their_system_prompt_where_they_have_one_that_the_template_shows() -> None:
    prompted, plain, empty = (
        HoldoutItem.model_validate(values(name, messages=messages))
        for name, messages in (("p", PROMPTED), ("n", SPOKEN), ("e", [{"role": "system", "content": ""}, *SPOKEN]))
    )
    assert with_prompts(Letters(), [prompted, plain, empty]) == [prompted]
    assert rendered_full_prompt(Letters(), prompted) == "system>Be short.$\nuser>ask$\nassistant>"
    assert rendered_prompt(Letters(), prompted) == "user>ask$\nassistant>"
    for tokenizer in (Unprompted(), Refusing()):
        assert with_prompts(tokenizer, [plain, prompted]) is None
        assert with_prompts(tokenizer, [plain]) == []


def test_rules_judge_an_item_by_its_checks_or_by_its_call() -> None:
    plain = HoldoutItem.model_validate(values("a", messages=SPOKEN))
    checked = HoldoutItem.model_validate(values("a", messages=SPOKEN, checks=[Contains(text="a").model_dump()]))
    assert (plain.has_rules, checked.has_rules, calling(("look", {})).has_rules) == (False, True, True)
