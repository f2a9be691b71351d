"""Which system prompts the rows of a manifest had, and what they are trained under in their place."""

from __future__ import annotations

import json
from pathlib import Path

from services.harvester.manifest import write
from services.harvester.manifest.statistics import TOP, list_prompts
from services.harvester.manifest.store import UsedRow
from services.harvester.manifest.write import ManifestWriter
from services.harvester.policy import Prompts
from services.harvester.split import Split
from shared.contracts.harvest import SystemPrompt
from shared.storage.digests import digest_text


def used(number: int, system: str, side: Split = Split.TRAIN) -> UsedRow:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    messages = [{"role": "system", "content": system}, *turns] if system else turns
    return UsedRow(f"k{number}", "s", side, None, json.dumps(messages), "[]", None, None, None, False, "", "", "ida")


def counted(folder: Path, rows: list[UsedRow], prompts: Prompts) -> list[SystemPrompt]:
    with ManifestWriter(folder, "scribe", prompts) as writer:
        writer.write(rows)
        return list_prompts(writer.system_prompts)


def test_training_rows_are_counted_by_their_own_prompt_and_by_what_takes_its_place(tmp_path: Path) -> None:
    rows = [used(number, "You are the scribe. Write.") for number in range(40)]
    others = [used(50, "Another."), used(51, ""), used(52, "Of dev.", Split.DEV), used(53, "Sealed.", Split.HOLDOUT)]

    found = counted(tmp_path, [*rows, *others], Prompts(full=0.3, short=0.3))

    assert [prompt.text for prompt in found] == ["You are the scribe. Write.", "Another."]
    assert found[0].digest == digest_text(found[0].text)
    assert found[0].rows.keys() == {"full", "short", "none"} and sum(found[0].rows.values()) == 40


def test_prompts_that_all_differ_fill_neither_the_memory_nor_the_manifest(tmp_path: Path) -> None:
    most = write.MOST_PROMPTS
    rows = [used(number, f"Today is day {number}.") for number in range(most + 5)] + [used(-1, "Today is day 0.")]

    with ManifestWriter(tmp_path, "scribe", Prompts()) as writer:
        writer.write(rows)
        found = list_prompts(writer.system_prompts)

    assert len(writer.system_prompts) == most
    assert len(found) == TOP and found[0].text == "Today is day 0." and sum(found[0].rows.values()) == 2
