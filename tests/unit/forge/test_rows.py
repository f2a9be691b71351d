"""Rows are read from the shards of the manifest that the job names, and from no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.forge.trainer.rows import Row, read_rows
from shared.jobs.result_writer import InputError
from shared.storage.digests import digest_tree
from tests.unit.forge.letters import GOLDEN, PLAIN, TOOLS


def values(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": name, "session": "s", "checks": [], "messages": list(PLAIN), "prompt": "full"} | changes


def write(folder: Path, *shards: list[dict[str, Any]], split: str = "train") -> str:
    (folder / split).mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shard)
        (folder / split / f"{number:05}.jsonl").write_text(text, encoding="utf-8")
    return digest_tree(folder)


def test_the_rows_of_all_shards_are_read_in_order_at_each_pass(tmp_path: Path) -> None:
    write(tmp_path, [values("e")], split="dev")
    digest = write(tmp_path, [values("b"), values("a")], [], [values("d"), values("c")])
    train, dev = read_rows(tmp_path, digest)
    assert [row.id for row in train] == [row.id for row in train] == ["b", "a", "d", "c"]
    assert (len(train), len(dev), [row.id for row in dev]) == (4, 1, ["e"])


def test_a_manifest_needs_no_dev_split(tmp_path: Path) -> None:
    _, dev = read_rows(tmp_path, write(tmp_path, [values("a")]))
    assert (len(dev), list(dev)) == (0, [])


def test_pairs_and_labels_are_let_be(tmp_path: Path) -> None:
    write(tmp_path, [{"id": "p", "prompt": [], "chosen": [], "rejected": []}], split="pairs")
    train, _ = read_rows(tmp_path, write(tmp_path, [values("a")]))
    assert len(train) == 1


def test_a_row_brings_its_tools_and_its_calls(tmp_path: Path) -> None:
    digest = write(tmp_path, [values("a", messages=list(GOLDEN), tools=list(TOOLS))])
    assert list(read_rows(tmp_path, digest)[0]) == [Row(id="a", messages=GOLDEN, tools=TOOLS, prompt="full")]


def test_who_chose_a_row_and_why_is_not_trained(tmp_path: Path) -> None:
    stated = {"why": "it was right", "evidence": "the lamp is lit", "consecrated_by": "ida"}
    digest = write(tmp_path, [values("a", **stated)])
    assert list(read_rows(tmp_path, digest)[0]) == [Row(id="a", messages=PLAIN, prompt="full")]


def test_only_line_feeds_end_a_row(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "one\u2028two\x85three"}
    train, _ = read_rows(tmp_path, write(tmp_path, [values("a", messages=[PLAIN[1], said])]))
    assert [row.messages[-1]["content"] for row in train] == ["one\u2028two\x85three"]


def test_a_row_may_end_in_a_call(tmp_path: Path) -> None:
    train, _ = read_rows(tmp_path, write(tmp_path, [values("a", messages=list(GOLDEN[:3]))]))
    assert [row.messages for row in train] == [GOLDEN[:3]]


def test_a_changed_manifest_is_refused_for_good(tmp_path: Path) -> None:
    digest = write(tmp_path, [values("a")])
    (tmp_path / "train" / "00000.jsonl").write_text("{}")
    with pytest.raises(InputError, match="harvest again"):
        read_rows(tmp_path, digest)


def test_a_gap_between_shards_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [values("a")], [values("b")], [values("c")])
    (tmp_path / "train" / "00001.jsonl").unlink()
    with pytest.raises(InputError, match=r"train should continue with 00001\.jsonl, found 00002\.jsonl"):
        read_rows(tmp_path, digest_tree(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"messages": list(PLAIN[:2])}, "does not end in an assistant's answer"),
        ({"messages": [PLAIN[1], GOLDEN[2] | {"tool_calls": []}]}, "does not end in an assistant's answer or call"),
        ({"prompt": "long"}, "prompt: "),
        ({"prompt": None}, "prompt: "),
        ({"prompt": "short"}, "has none"),
    ],
)
def test_what_is_no_row_is_refused_by_shard_and_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    digest = write(tmp_path, [values("a")], [values("b"), values("c", **changes)])
    with pytest.raises(InputError, match=r"train/00001\.jsonl line 2 is not a row: ") as refusal:
        read_rows(tmp_path, digest)
    assert said in str(refusal.value)


@pytest.mark.parametrize("folder", ["train", "other"])
def test_a_manifest_without_rows_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        read_rows(tmp_path, write(tmp_path, [], split=folder))


def test_a_row_is_trained_under_the_prompt_that_it_names() -> None:
    row = {"id": "a", "messages": PLAIN, "short_prompt": "BRIEF"}
    prompts = {form: Row.model_validate({**row, "prompt": form}).conversation() for form in ("full", "short", "none")}
    assert prompts == {
        "full": list(PLAIN),
        "short": [{"role": "system", "content": "BRIEF"}, *PLAIN[1:]],
        "none": list(PLAIN[1:]),
    }
