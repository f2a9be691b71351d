"""The sealed holdout as the evaluator reads, renders and asks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.verifier.evaluator.holdout import HoldoutItem, read_holdout, rendered_answer, rendered_prompt, shown
from services.verifier.reconcile import probe_prompts
from shared.jobs.result_writer import InputError
from tests.unit.forge.letters import GOLDEN, PLAIN, TOOLS, Letters, Tooled


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


def test_probes_are_first_questions_of_as_many_sessions(tmp_path: Path) -> None:
    def asked(question: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": "x"}]

    rows = [("2", "c\u2028d"), ("1", "a"), ("1", "b"), ("3", "e")]
    shards = [[values(question, session, messages=asked(question))] for session, question in rows]
    assert probe_prompts(write(tmp_path, *shards), 2) == ("a", "c\u2028d")
