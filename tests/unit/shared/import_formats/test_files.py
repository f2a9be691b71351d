"""Reading karma from a file: wrong lines are reported by number and rule, never with their content."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.karma import LARGEST_RECORD, KarmaRecord
from shared.import_formats import parser, reader
from shared.import_formats.formats import Format, Imported
from shared.import_formats.parser import Fault, Line
from shared.import_formats.record import ImportDefaults
from shared.import_formats.source import JOBS_PYTHON, SourceError, check_file

SECRET = "geheimnis"
DEFAULTS = ImportDefaults("file", "file-1", persona="scribe")
TURNS = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]


def record(**values: Any) -> bytes:
    return json.dumps({"id": "a", "persona": "scribe", "session": "s", "messages": TURNS, **values}).encode()


def parse(raw: bytes) -> KarmaRecord | Fault | None:
    found = parser.parse_line("f", 7, raw, Format.AUTO, DEFAULTS)
    return found.records[-1] if isinstance(found, Imported) else found


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


def test_a_record_may_end_in_a_call() -> None:
    for turns in ([call()], [call(), RESULT, call()]):
        assert isinstance(parse(record(messages=[TURNS[0], *turns])), KarmaRecord)


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
        (record(messages=[TURNS[0], call(), RESULT | {"tool_call_id": "d"}, call()]), "a tool result without its call"),
        (record(messages=[TURNS[0], call(), call(id="d")]), "messages.1: a tool call without its result"),
        (record(messages=[TURNS[0], call(id=None)]), "messages.1.tool_calls.0: no id"),
        (record(messages=[TURNS[0], call(function={"name": "f", "arguments": SECRET})]), "not a JSON object"),
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
        (record()[:-1] + b', "why": "a", "why": "b"}', "an object that names one field twice"),
        (record(persona=SECRET.upper()), "persona: String should match pattern"),
        (record(id=""), "id: String should have at least 1 character"),
        (record(id="x" * 201), "id: String should have at most 200 characters"),
        (record(parent="x" * 201), "parent: longer than 200 characters"),
        (record(session=None), "session: Input should be a valid string"),
        (json.dumps({"persona": "scribe", "session": "s", "messages": TURNS}).encode(), "id: missing"),
        (record(geheimnis=SECRET), "geheimnis: Extra inputs are not permitted"),
        (record(**{SECRET * 4: SECRET}), "(a field): Extra inputs are not permitted"),
        (record(status="white_truth"), "a white_truth needs consecrated_by"),
        (record(status="white_truth", consecrated_by=" "), "a white_truth needs consecrated_by"),
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
        monkeypatch.setattr(module, "LARGEST_RECORD", 2 * 1024**2)
    file = tmp_path / "karma.jsonl"
    file.write_bytes(record() + b"\n" + record(why="x" * 5 * 1024**2) + b"\n" + record(id="b"))
    first, long, last = lines(file)
    assert isinstance(first.content, Imported) and isinstance(last.content, Imported)
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
    records = [one.records[0] for one in found if isinstance(one, Imported)]
    assert [(one.id, one.why) for one in records] == [
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
    assert sum(isinstance(line.content, Imported) for line in found) == 3


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
    assert isinstance(found[0].content, Imported)
    assert [str(line.content) for line in found if isinstance(line.content, Fault)] == [f"{file}:{t}" for t in expected]


def test_lines_whose_first_is_an_array_are_lines_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "karma.jsonl"
    file.write_bytes(b'["x"]\n' + record() + b"\n")
    wrong, right = lines(file)
    assert isinstance(wrong.content, Fault) and isinstance(right.content, Imported)


def test_one_nul_does_not_make_a_file_binary(tmp_path: Path) -> None:
    file = tmp_path / "karma.jsonl"
    file.write_bytes(b"x\0y\n" + record())
    assert check_file(file) == file.stat().st_size
    file.write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(SourceError, match="not a text file"):
        check_file(file)
    file.write_bytes(record().decode().encode("utf-16-le"))
    with pytest.raises(SourceError, match="not a text file, or in UTF-16"):
        check_file(file)


def whole(path: Path) -> list[str]:
    """The ids of the records of a file that has no fault."""
    found = [line.content for line in lines(path) if line.content]
    assert all(isinstance(one, Imported) for one in found), found
    return [one.records[0].id for one in found if isinstance(one, Imported)]


def test_a_file_is_read_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "karma"
    text = record().decode() + "\n" + record(id="b", why="ü").decode() + "\n"
    for data in (
        gzip.compress(text.encode()),
        text.encode("utf-16"),
        gzip.compress(text.encode("utf-16")),
        text.replace("\n", "\r").encode(),
        text.replace("\n", "\r\n").encode(),
    ):
        file.write_bytes(data)
        assert check_file(file) == len(data)
        assert whole(file) == ["a", "b"]


def test_a_pretty_printed_object_is_one_record_and_several_are_several(tmp_path: Path) -> None:
    file = tmp_path / "karma.json"
    one, two = (json.dumps(json.loads(record(id=name, why="}{")), indent=2) for name in "ab")
    file.write_text(one)
    assert whole(file) == ["a"]
    file.write_text(f"{one}\n{two}\n")
    assert whole(file) == ["a", "b"]
    file.write_text(one[:-1])
    assert [str(line.content) for line in lines(file)] == [f"{file}:1 not JSON: truncated"]


@pytest.mark.parametrize("chunk", [5, 1024**2])
@pytest.mark.parametrize("padding", ["y", '\\"', "\\\\", "]}, {"])
def test_an_element_that_is_too_long_is_named_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, padding: str
) -> None:
    monkeypatch.setattr(reader, "CHUNK", chunk)
    monkeypatch.setattr(reader, "LARGEST_RECORD", 600)
    file = tmp_path / "karma.json"
    long = record(why="x").decode().replace('"x"', f'"{padding * 700}"')
    file.write_text(f"[{record().decode()},\n\n{long},\n{record(id='b').decode()},\n{long}]")
    first, second, third, fourth = lines(file)
    assert isinstance(first.content, Imported) and isinstance(third.content, Imported)
    assert str(second.content).startswith(f"{file}:") and "longer than" in str(second.content)
    assert (third.number, "longer than" in str(fourth.content)) == (4, True)
    assert sum(line.read_bytes for line in (first, second, third, fourth)) == file.stat().st_size - 1


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as others:
        assert check_file(pipe) is None
        written = others.submit(pipe.write_bytes, record() + b"\n" + record(id="b"))
        assert whole(pipe) == ["a", "b"]
        written.result()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gzip.compress(record() * 50)[:-20], "damaged or truncated gzip"),
        (b"\x1f\x8b" + b"nonsense" * 9, "damaged or truncated gzip"),
        (b"\xff\xfe" + b"\x00\xd8" * 9, "is not UTF-16"),
        (gzip.compress(b" "), "is empty"),
        (b"PAR1" + b"nonsense" * 9, "parquet"),
    ],
    ids=["cut", "nonsense", "UTF-16", "empty", "parquet"],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, data: bytes, expected: str) -> None:
    file = tmp_path / "karma"
    file.write_bytes(data)
    with pytest.raises(SourceError, match=expected):
        lines(file)


@pytest.mark.skipif(not JOBS_PYTHON.exists(), reason="parquet is read by the jobs' environment")
def test_parquet_is_read(tmp_path: Path) -> None:
    source, file = tmp_path / "karma.jsonl", tmp_path / "karma.parquet"
    source.write_bytes(record() + b"\n" + record(id="b", why="ü") + b"\n")
    write = (
        "import sys; from pyarrow import json, parquet; parquet.write_table(json.read_json(sys.argv[1]), sys.argv[2])"
    )
    subprocess.run([JOBS_PYTHON, "-c", write, source, file], check=True)
    assert whole(file) == ["a", "b"]


def test_what_follows_a_record_that_is_too_long_in_the_last_piece_is_read(tmp_path: Path) -> None:
    file = tmp_path / "karma.json"
    long = b'{"messages": "' + b"y" * (LARGEST_RECORD + 1) + b'"}'
    file.write_bytes(b"[" + record() + b",\n" + long + b",\n" + record(id="b") + b"]")
    first, second, third = lines(file)
    assert isinstance(first.content, Imported) and isinstance(third.content, Imported)
    assert str(second.content) == f"{file}:2 longer than 1 MiB"


def test_numbers_and_depths_that_cannot_be_held_are_faults_or_nothing(tmp_path: Path) -> None:
    plain = {"messages": TURNS}
    assert isinstance(parse(json.dumps(plain).encode()[:-1] + b', "created_at": 1' + b"0" * 400 + b"}"), KarmaRecord)
    deep = {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        "tools": '[{"name": "f", "p": ' + "[" * 900 + "]" * 900 + "}]",
    }
    found = parse(json.dumps(deep).encode())
    assert isinstance(found, KarmaRecord | Fault)
    for name, year in (("20231105", 2023), ("3.2", None)):
        made = parse(json.dumps(plain | {"date": name}).encode())
        assert isinstance(made, KarmaRecord) and (made.created_at and made.created_at.year) == year


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"a,b\n1,2\n", "holds no JSON"), (b"# Talk\n\nHi.\n", "holds no JSON"), (b"PK\x03\x04" + b"x" * 9, "is packed")],
)
def test_a_file_of_another_kind_is_one_line_of_error(tmp_path: Path, data: bytes, expected: str) -> None:
    file = tmp_path / "karma"
    file.write_bytes(data)
    with pytest.raises(SourceError, match=expected):
        lines(file)
