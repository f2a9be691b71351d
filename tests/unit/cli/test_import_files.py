"""Reading karma from a file: wrong lines are reported by number and rule, never with their content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.errors import UserError
from deploy.cli.import_formats import parser, reader
from deploy.cli.import_formats.formats import Format
from deploy.cli.import_formats.parser import Fault, Line
from deploy.cli.import_formats.reader import check_file
from deploy.cli.import_formats.record import ImportDefaults
from shared.contracts.karma import KarmaRecord

SECRET = "geheimnis"
DEFAULTS = ImportDefaults("file", persona="scribe")
TURNS = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]


def record(**values: Any) -> bytes:
    return json.dumps({"id": "a", "persona": "scribe", "session": "s", "messages": TURNS, **values}).encode()


def parse(raw: bytes) -> KarmaRecord | Fault | None:
    return parser.parse_line("f", 7, raw, Format.AUTO, DEFAULTS)


def lines(path: Path) -> list[Line]:
    return list(parser.parse_file(path, Format.AUTO, DEFAULTS))


def asked(*turns: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": SECRET}, *turns, {"role": "assistant", "content": SECRET}]


def call(**values: Any) -> dict[str, Any]:
    one = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}} | values
    return {"role": "assistant", "tool_calls": [one]}


RESULT = {"role": "tool", "content": SECRET, "tool_call_id": "c"}


def test_a_record_is_read() -> None:
    found = parse(record())
    assert isinstance(found, KarmaRecord) and found.id == "a"


def test_a_record_with_a_tool_call_and_its_result_is_read() -> None:
    assert isinstance(parse(record(messages=asked(call(), RESULT))), KarmaRecord)


def test_a_byte_order_mark_and_blank_lines_are_no_user_error() -> None:
    assert isinstance(parse(b"\xef\xbb\xbf" + record() + b"\r\n"), KarmaRecord)
    assert parse(b"  \r\n") is None


def test_an_escaped_backslash_before_u0000_is_text_like_any_other() -> None:
    assert isinstance(parse(record(why="\\u0000")), KarmaRecord)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (SECRET.encode(), "not JSON"),
        (record().replace(b":", b"=", 1), "not JSON"),
        (record()[:-5], "not JSON: truncated"),
        (record() + record(), "not JSON: something follows the object"),
        (record(why="x").replace(b'"x"', b"NaN"), "not JSON: NaN or Infinity"),
        (record().replace(SECRET.encode(), SECRET.encode() + b"\n"), "not JSON: a control character in text"),
        (b"[" * 5000, "nested too deeply"),
        (b"\xff\xfe" + SECRET.encode(), "not UTF-8 (byte 1)"),
        (record().replace(b"geheimnis", b"geheimnis\xe9"), "not UTF-8 (byte "),
        (f'["{SECRET}"]'.encode(), "an array, not a JSON object"),
        (b"4711", "a number, not a JSON object"),
        (b"null", "nothing, not a JSON object"),
        (b"{}", "not in a known format"),
        (record(messages=None).replace(b"messages", b"massages"), "no messages"),
        (record(messages=[]), "messages are empty"),
        (record(messages=SECRET), "messages: text, not an array"),
        (record(messages=[SECRET]), "messages.0: text, not an object"),
        (record(messages=[{"role": "user", "content": SECRET}]), "messages must end with an assistant message"),
        (record(messages=[{"role": "assistant", "content": SECRET}]), "messages must contain a user message"),
        (record(messages=[{"role": SECRET, "content": SECRET}]), "messages.0.role: Input should be"),
        (record(messages=asked(RESULT)), "messages.1: a tool result without its call"),
        (record(messages=asked(call(id="d"), RESULT)), "messages.2: a tool result without its call"),
        (record(messages=asked(call(), RESULT, RESULT)), "messages.3: a tool result without its call"),
        (record(messages=asked(call())), "messages.1: a tool call without its result"),
        (record(messages=asked(call(id=None), RESULT)), "messages.1.tool_calls.0: no id"),
        (record(messages=asked(call(function={"name": "f", "arguments": {}}), RESULT)), "arguments are not text"),
        (record(messages=asked(call(function={"name": "f", "arguments": SECRET}), RESULT)), "not a JSON object"),
        (record(messages=asked(call(function={"arguments": "{}"}), RESULT)), "no function name"),
        (record(why=5), "why: Input should be a valid string"),
        (record(why=SECRET + "\0"), "why: NUL character in text"),
        (record(outcome={"evidence": "\0"}), "outcome: NUL character in text"),
        (record(tools=[{"\0": SECRET}]), "tools: NUL character in text"),
        (record().replace(b"geheimnis", b"geheimnis\0"), "NUL character in text"),
        (record(why="\ud83d"), "half of a surrogate pair in text"),
        (record(why="\udc00 x"), "half of a surrogate pair in text"),
        (record(tools=[{"limit": 1}]).replace(b'"limit": 1', b'"limit": 1e999'), "a number too large"),
        (record(persona=SECRET.upper()), "persona: String should match pattern"),
        (record(id=""), "id: String should have at least 1 character"),
        (record(id="x" * 201), "id: String should have at most 200 characters"),
        (record(parent="x" * 201), "parent: longer than 200 characters"),
        (record(session=None), "session: Input should be a valid string"),
        (json.dumps({"persona": "scribe", "session": "s", "messages": TURNS}).encode(), "id: missing"),
        (record(geheimnis=SECRET), "geheimnis: Extra inputs are not permitted"),
        (record(**{SECRET * 4: SECRET}), "(a field): Extra inputs are not permitted"),
        (record(status="white_truth"), "a white_truth needs consecrated_by"),
        (record(status=SECRET), "status: Input should be"),
        (record(outcome={"checks": [{"kind": "regex", "pattern": f"({SECRET}"}]}), "not a valid check"),
        (
            record(outcome={"checks": [{"kind": "regex", "pattern": SECRET + "{99999999999999999999}"}]}),
            "not a valid check",
        ),
        (record(outcome={"checks": [{"kind": "regex", "pattern": "(" * 999 + ")" * 999}]}), "not a valid check"),
        (record(outcome={"checks": [{"kind": SECRET}]}), "not a valid check"),
        (record(consecrated_at="2026-01-01T00:00:00"), "consecrated_at: Input should have timezone info"),
        (record(created_at="0001-01-01T00:00:00+14:00"), "created_at: not between the years"),
    ],
)
def test_what_is_wrong_is_reported_without_content(raw: bytes, expected: str) -> None:
    found = parse(raw)
    assert isinstance(found, Fault) and found.line == 7
    assert expected in found.why
    assert SECRET not in found.why.lower().replace("geheimnis: extra inputs", "")


def test_lines_are_numbered_as_an_editor_does_and_their_sizes_add_up(tmp_path: Path) -> None:
    file = tmp_path / "karma.jsonl"
    file.write_bytes(record() + b"\n\n{}\n" + record(id="b"))
    found = lines(file)
    assert sum(line.read_bytes for line in found) == file.stat().st_size
    assert [line.content.line for line in found if isinstance(line.content, Fault)] == [3]


def test_a_line_that_is_too_long_is_reported_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (parser, reader):
        monkeypatch.setattr(module, "LONGEST", 2 * 1024**2)
    file = tmp_path / "karma.jsonl"
    file.write_bytes(record() + b"\n" + record(why="x" * 5 * 1024**2) + b"\n" + record(id="b"))
    first, long, last = lines(file)
    assert isinstance(first.content, KarmaRecord) and isinstance(last.content, KarmaRecord)
    assert str(long.content) == f"{file}:2 longer than 2 MiB" and last.number == 3
    assert first.read_bytes + long.read_bytes + last.read_bytes == file.stat().st_size


@pytest.mark.parametrize("chunk", [1, 7, 64, 1024**2])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_like_lines_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(reader, "CHUNK", chunk)
    hard = 'a "quote", a \\ and ]}[{, and ü'
    given = [json.loads(record(id=name, why=hard)) for name in ("a", "b", "c")]
    file = tmp_path / "karma.json"
    file.write_text("\ufeff " + json.dumps(given, indent=indent, ensure_ascii=False) + "\n")
    found = [line.content for line in lines(file) if line.content]
    assert [(one.id, one.why) for one in found if isinstance(one, KarmaRecord)] == [
        ("a", hard),
        ("b", hard),
        ("c", hard),
    ]
    assert len(found) == 3


def test_a_wrong_element_of_an_array_is_reported_by_its_line_and_the_others_are_read(tmp_path: Path) -> None:
    file = tmp_path / "karma.json"
    elements = [
        record(),
        b'{"a": geheim}',
        b"5",
        record(why="\xff"),
        record(id="b").replace(b"geheimnis", b"\xff"),
        record(),
    ]
    file.write_bytes(b"[\n" + b",\n".join(elements) + b"\n]\n")
    found = lines(file)
    assert [str(line.content) for line in found if isinstance(line.content, Fault)] == [
        f"{file}:3 not JSON",
        f"{file}:4 a number, not a JSON object",
        f"{file}:6 not UTF-8 (byte 92)",
    ]
    assert sum(isinstance(line.content, KarmaRecord) for line in found) == 3


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b"", ["3 not JSON: truncated"]),
        (b', {"id"', ["2 not JSON: truncated"]),
        (b"] more", ["2 not JSON"]),
        (b"\n]", []),
    ],
)
def test_an_array_without_its_end_keeps_what_is_whole(tmp_path: Path, end: bytes, expected: list[str]) -> None:
    file = tmp_path / "karma.json"
    file.write_bytes(b"[\n" + record() + (end or b"\n"))
    found = lines(file)
    assert isinstance(found[0].content, KarmaRecord)
    assert [str(line.content) for line in found if isinstance(line.content, Fault)] == [f"{file}:{t}" for t in expected]


def test_lines_whose_first_is_an_array_are_lines_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "karma.jsonl"
    file.write_bytes(b'["x"]\n' + record() + b"\n")
    wrong, right = lines(file)
    assert isinstance(wrong.content, Fault) and isinstance(right.content, KarmaRecord)


def test_one_nul_does_not_make_a_file_binary(tmp_path: Path) -> None:
    file = tmp_path / "karma.jsonl"
    file.write_bytes(b"x\0y\n" + record())
    assert check_file(file) == file.stat().st_size
    file.write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(UserError, match="not a text file"):
        check_file(file)
    file.write_bytes(record().decode().encode("utf-16"))
    with pytest.raises(UserError, match="not a text file"):
        check_file(file)
