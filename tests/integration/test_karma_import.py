"""`soulforge karma import` on a real PostgreSQL: once remembered, never changed; wrong lines are told and skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy.cli.main import run


@pytest.fixture
def persona(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A persona of this test alone, in a house whose database is real."""
    monkeypatch.setenv("SOULFORGE_DATABASE", database)
    monkeypatch.setenv("SOULFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return f"p{uuid4().hex[:12]}"


def record(persona: str, number: int, **values: Any) -> str:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"answer {number}"}]
    return json.dumps({"id": f"{persona}-{number}", "persona": persona, "session": "s", "messages": messages, **values})


def write(name: str, *lines: str) -> str:
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def told(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    shown = capsys.readouterr()
    return shown.out.strip(), shown.err


def test_records_are_remembered_once(persona: str, capsys: pytest.CaptureFixture[str]) -> None:
    one = write("one.jsonl", *(record(persona, number) for number in range(450)))
    two = write("two.jsonl", *(record(persona, number) for number in range(440, 460)))
    assert run(["karma", "import", one]) == 0
    assert told(capsys)[0] == "450 new, 0 known already, 0 wrong"
    assert run(["karma", "import", one, two]) == 0
    assert told(capsys)[0] == "10 new, 460 known already, 0 wrong"


def test_wrong_lines_are_told_by_number_and_the_rest_is_remembered(
    persona: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write("k.jsonl", record(persona, 1), "geheim", "", record(persona, 2, session=""), record(persona, 3))
    assert run(["karma", "import", file]) == 1
    out, err = told(capsys)
    assert out == "2 new, 0 known already, 2 wrong"
    assert "k.jsonl:2 not JSON" in err and "k.jsonl:4 session: " in err and "geheim" not in err


def test_many_wrong_lines_are_counted(persona: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("k.jsonl", *["{}"] * 33)
    assert run(["karma", "import", file]) == 1
    out, err = told(capsys)
    assert out.endswith("33 wrong") and err.count("k.jsonl:") == 20 and "and 13 more wrong lines" in err


def test_a_known_record_is_not_changed_by_another_with_its_id(persona: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["karma", "import", write("a.jsonl", record(persona, 1))]) == 0
    changed = record(persona, 1, status="white_truth", consecrated_by="me")
    assert run(["karma", "import", write("b.jsonl", changed)]) == 0
    capsys.readouterr()
    assert run(["karma", "stats"]) == 0
    row = next(line for line in told(capsys)[0].splitlines() if line.startswith(persona))
    assert row.split()[1:4] == ["1", "0", "1"], "records, white truths, speculative"
