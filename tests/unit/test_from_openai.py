"""What docs/from-openai.md shows is tried: an evaluation's items become karma with rules. The script itself is run end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.contracts.checks import passes
from shared.contracts.karma import KarmaRecord, Status
from tests.support.documented import list_code_blocks

DOCUMENT = "docs/from-openai.md"
ITEMS = [
    {"input": "Capital of France?", "reference": "Paris"},
    {"input": "2 + 2?", "reference": "4 (four)"},
]


@pytest.mark.parametrize(
    ("operation", "right", "wrong"),
    [
        ("eq", "Paris", "It is Paris."),
        ("like", "It is Paris.", "It is paris."),
        ("ilike", "It\nis paris.", "It is Rome."),
    ],
)
def test_the_items_of_an_old_evaluation_become_karma_with_rules(
    tmp_path: Path, operation: str, right: str, wrong: str
) -> None:
    _, script = (block.text for block in list_code_blocks("python") if block.document == DOCUMENT)
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps({"item": item}) + "\n" for item in ITEMS))

    script = script.replace('OPERATION = "ilike"', f'OPERATION = "{operation}"')
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)

    lines = (tmp_path / "karma.jsonl").read_text().splitlines()
    records = [KarmaRecord.model_validate_json(line) for line in lines]
    assert [record.status for record in records] == [Status.WHITE_TRUTH] * len(ITEMS)
    assert all(passes(record.outcome.checks, record.messages[-1].content or "") for record in records)
    assert passes(records[0].outcome.checks, right) and not passes(records[0].outcome.checks, wrong)
