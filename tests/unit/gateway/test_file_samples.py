"""Files after the forms in OpenAI's documentation are accepted or refused as documented there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.gateway.files.check import check
from services.gateway.files.records import LARGEST_EXAMPLE, FileChangedError, iterate_records
from services.gateway.files.store import FileStatus, StoredFile
from shared.contracts.karma import KarmaRecord, Status
from tests.support.tuning_files import DIFFERENT, LEAST, PAIR, SAMPLES, Sample, answer, called, chat, lines, user

AT = datetime(2026, 11, 27, tzinfo=UTC)


def stored(path: Path, content: bytes, id: str = "file-0a") -> StoredFile:
    path.write_bytes(content)
    return StoredFile(
        id, "key-1", "a.jsonl", "fine-tune", len(content), "", FileStatus.PROCESSED, None, None, None, AT, None, path
    )


def records(file: StoredFile, persona: str = "scribe", consecrated_by: str | None = "Ada") -> list[KarmaRecord]:
    return list(iterate_records(file, persona, f"openai:{file.id}", consecrated_by, AT if consecrated_by else None))


@pytest.mark.parametrize("sample", [*SAMPLES.values(), *DIFFERENT.values()], ids=[*SAMPLES, *DIFFERENT])
def test_a_file_is_accepted_or_refused_as_documented(sample: Sample, tmp_path: Path) -> None:
    file = stored(tmp_path / "file", sample.content)
    checked = check(file.path)
    if sample.refused:
        assert sample.refused in (checked.why or "")
        return
    assert (checked.why, checked.examples, checked.records) == (None, LEAST, len(records(file)))


def test_the_records_of_a_file_are_the_same_at_each_call_and_its_own(tmp_path: Path) -> None:
    content = SAMPLES["chat"].content
    one, other = stored(tmp_path / "one", content), stored(tmp_path / "other", content, "file-0b")
    made = records(one)

    assert made == records(one)
    assert {record.source for record in made} == {"openai:file-0a"}
    ids = [record.id for record in (*made, *records(other), *records(one, "coder"))]
    assert len(set(ids)) == 3 * LEAST


def test_a_key_that_consecrates_makes_white_truths_and_another_leaves_them_speculative(tmp_path: Path) -> None:
    file = stored(tmp_path / "file", SAMPLES["chat"].content)

    vouched, not_vouched = records(file), records(file, consecrated_by=None)

    assert {(one.status, one.consecrated_by, one.consecrated_at) for one in vouched} == {
        (Status.WHITE_TRUTH, "Ada", AT)
    }
    assert {(one.status, one.consecrated_by) for one in not_vouched} == {(Status.SPECULATIVE, None)}


def test_the_worse_answer_of_a_preference_is_corrected_and_never_consecrated(tmp_path: Path) -> None:
    worse, better = records(stored(tmp_path / "file", lines(PAIR, 1)))

    assert (worse.status, worse.feedback, worse.messages[-1].content) == (Status.SPECULATIVE, "down", "Paris.")
    assert (better.status, better.parent) == (Status.WHITE_TRUTH, worse.id)


def test_a_file_cannot_make_records_of_another_form(tmp_path: Path) -> None:
    own = {
        "id": "a",
        "persona": "scribe",
        "session": "s",
        "status": "white_truth",
        "consecrated_by": "me",
        "outcome": {"checks": [{"kind": "regex", "pattern": "(a+)+$"}]},
        "messages": [user("a"), answer("b")],
    }
    checked = check(stored(tmp_path / "file", lines(own)).path)

    assert (checked.examples, checked.wrong) == (0, LEAST)


def test_a_line_that_a_record_cannot_hold_is_refused(tmp_path: Path) -> None:
    fits = json.dumps(chat(user("a"), answer("b" * (LARGEST_EXAMPLE - 100)))).encode()
    wrong = json.dumps(chat(user("a"), answer("b" * LARGEST_EXAMPLE))).encode()

    checked = check(stored(tmp_path / "file", fits + b"\n" + wrong + b"\n").path)

    assert (checked.examples, checked.faults) == (1, ("line 2: longer than 640 KiB",))


HOSTILE = {
    "deep": b'{"messages": ' + b"[" * 100_000,
    "deep arguments": json.dumps(chat(user("a"), called("[" * 5000), answer("b"))).encode(),
    "digits": b'{"messages": [], "n": ' + b"9" * 10_000 + b"}",
    "infinite": b'{"messages": [{"role": "user", "content": 1e999}]}',
    "twice": b'{"messages": [], "messages": []}',
    "surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "x"}]}',
    "NUL": b'{"messages": [{"role": "user", "content": "\\u0000"}, {"role": "assistant", "content": "x"}]}',
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_a_fault_of_its_line(line: bytes, tmp_path: Path) -> None:
    checked = check(stored(tmp_path / "file", lines(chat(user("a"), answer("b")), 1) + line + b"\n").path)

    assert (checked.examples, checked.wrong) == (1, 1)
    assert checked.faults[0].startswith("line 2: ")


def test_a_file_of_faults_is_not_read_to_its_end_and_only_some_are_listed(tmp_path: Path) -> None:
    checked = check(stored(tmp_path / "file", b"{}\n" * 5000).path)

    assert (checked.wrong, len(checked.faults)) == (1000, 20)
    assert (checked.why or "").startswith("line 1: no messages; line 2: no messages")
    assert (checked.why or "").endswith("; and at least 980 more lines")


def test_a_file_that_changed_since_its_check_makes_no_records(tmp_path: Path) -> None:
    with pytest.raises(FileChangedError, match="file-0a: line 1 cannot be used any more"):
        records(stored(tmp_path / "file", b"{}\n"))


def test_an_example_that_is_too_large_as_a_record_is_found_by_the_check(tmp_path: Path) -> None:
    numbers = [1e15] * 40_000
    tool = {"type": "function", "function": {"name": "get", "parameters": {"type": "number", "enum": numbers}}}
    line = json.dumps(chat(user("a"), answer("b"), tools=[tool])).replace("1000000000000000.0", "1e15")
    assert len(line) < LARGEST_EXAMPLE

    checked = check(stored(tmp_path / "file", line.encode()).path)

    assert checked.why and "too large as a record" in checked.why


def test_a_session_that_is_too_long_with_the_file_s_name_is_found_by_the_check(tmp_path: Path) -> None:
    id = f"file-{'0' * 24}"
    content = lines(chat(user("a"), answer("b"), session="s" * 180))
    assert "session" in (check(stored(tmp_path / "file", content, id).path).why or "")

    fits = stored(tmp_path / "other", lines(chat(user("a"), answer("b"), session="s" * 170)), id)
    assert check(fits.path).why is None
    assert len(records(fits)) == LEAST
