"""Reading karma from a file: wrong lines are told by number and rule, never with what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.karma_file import WrongLine, lines, parse
from shared.contracts.karma import KarmaRecord

SECRET = "geheimnis"


def record(**values: Any) -> bytes:
    messages = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]
    return json.dumps({"id": "a", "persona": "scribe", "session": "s", "messages": messages, **values}).encode()


def test_a_record_is_read() -> None:
    found = parse("f", 1, record())
    assert isinstance(found, KarmaRecord) and found.id == "a"


def test_a_byte_order_mark_and_blank_lines_are_no_mistake() -> None:
    assert isinstance(parse("f", 1, b"\xef\xbb\xbf" + record() + b"\r\n"), KarmaRecord)
    assert parse("f", 2, b"  \r\n") is None


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (SECRET.encode(), "not JSON"),
        (record()[:-5], "not JSON"),
        (b"\xff\xfe" + SECRET.encode(), "not JSON"),
        (f'["{SECRET}"]'.encode(), "Input should be an object"),
        (record(persona=SECRET.upper()), "persona: String should match pattern"),
        (record(id=""), "id: String should have at least 1 character"),
        (record(geheimnis=SECRET), "Extra inputs are not permitted"),
        (record(messages=[{"role": "user", "content": SECRET}]), "messages must end with an assistant message"),
        (record(messages=[{"role": SECRET, "content": SECRET}]), "messages.0.role: Input should be"),
        (record(status="white_truth"), "a white_truth needs consecrated_by"),
        (record(outcome={"checks": [{"kind": "regex", "pattern": f"({SECRET}"}]}), "not a valid check"),
        (record(outcome={"checks": [{"kind": SECRET}]}), "not a valid check"),
        (record(consecrated_at="2026-01-01T00:00:00"), "consecrated_at: Input should have timezone info"),
    ],
)
def test_what_is_wrong_is_told_without_content(raw: bytes, told: str) -> None:
    found = parse("f", 7, raw)
    assert isinstance(found, WrongLine) and found.line == 7
    assert told in found.why
    assert SECRET not in found.why.lower().replace("geheimnis: extra inputs", "")


def test_lines_are_numbered_as_an_editor_does_and_their_sizes_add_up(tmp_path: Path) -> None:
    file = tmp_path / "karma.jsonl"
    file.write_bytes(record() + b"\n\n{}\n" + record(id="b"))
    found = list(lines(file))
    assert sum(line.read_bytes for line in found) == file.stat().st_size
    assert [line.content.line for line in found if isinstance(line.content, WrongLine)] == [3]
