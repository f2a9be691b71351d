"""The prompts of replay: many, of many kinds, always the same, and none of them an item of a benchmark."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.forge.replay.prompts import list_prompts, prompts_digest
from shared.config.settings import PROJECT

SUITES = PROJECT / "services/verifier/suites"
OUTSIDE = PROJECT.parent / "shared" / "data"  # not part of the project, present where it is developed
WORDS = 5  # in a row that a prompt and an item may not share; what decontaminates karma takes 13 of a long item, 8 of a short


def test_there_are_many_prompts_of_many_kinds() -> None:
    prompts = list_prompts()
    kinds = Counter(prompt.kind for prompt in prompts)

    assert len(prompts) >= 1500 and len({prompt.text for prompt in prompts}) == len(prompts)
    assert len(kinds) >= 20 and min(kinds.values()) >= 20 and max(kinds.values()) < len(prompts) / 8
    assert 0.2 < sum(prompt.is_text for prompt in prompts) / len(prompts) < 0.35
    assert all(prompt.text == prompt.text.strip() and "{" not in prompt.text for prompt in prompts)


def test_any_share_has_most_kinds() -> None:
    assert len({prompt.kind for prompt in list_prompts()[:100]}) >= 20


def test_the_prompts_and_their_order_are_the_same_in_every_process() -> None:
    assert prompts_digest() == "sha256:e42eb64831cc16a1256f2332f850dc08713f7dcf3fb26056f1e5270936d3bebf"


def test_no_prompt_is_an_item_of_a_shipped_suite() -> None:
    items = [
        item["prompt"] if "prompt" in item else f"{item['context']} {item['choices'][item['answer']]}"
        for item in read(SUITES)
    ]
    assert len(items) > 900

    assert not shared_passages(items)


@pytest.mark.skipif(not OUTSIDE.is_dir(), reason=f"no benchmarks in {OUTSIDE}")
def test_no_prompt_is_an_item_of_a_public_benchmark() -> None:
    items = [str(item.get("question") or item["sentence_good"]) for item in read(OUTSIDE)]
    assert len(items) > 1000

    assert not shared_passages(items)


def test_an_item_that_is_put_into_a_prompt_would_be_found() -> None:
    opening = next(prompt.text for prompt in list_prompts() if len(prompt.text.split()) > WORDS)

    assert shared_passages([f"Well, {opening.upper()}!"])


def read(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.jsonl")):
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def shared_passages(items: list[str]) -> set[str]:
    """The passages of WORDS words, and whole shorter items, that are in a prompt."""
    prompts = [words(prompt.text) for prompt in list_prompts()]
    known = {passage for prompt in prompts for passage in passages(prompt)}
    short = [" ".join(item) for item in map(words, items) if len(item) < WORDS]
    texts = [f" {' '.join(prompt)} " for prompt in prompts]
    found = {passage for item in map(words, items) for passage in passages(item)} & known
    return found | {item for item in short if any(f" {item} " in text for text in texts)}


def passages(text: list[str]) -> Iterator[str]:
    return (" ".join(text[at : at + WORDS]) for at in range(len(text) - WORDS + 1))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
