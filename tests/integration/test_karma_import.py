"""`soulforge karma import` on a real PostgreSQL: once stored, never changed; wrong lines are reported and skipped."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from deploy.cli.main import run
from deploy.embedded import postgres
from deploy.embedded.preflight import PreflightError
from shared.config.settings import PROJECT, Settings
from shared.contracts.karma import LARGEST_RECORD
from shared.storage.postgres import Pool
from tests.support.running import eventually
from tests.support.servers import House, use_database


@pytest.fixture
def persona(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A persona of this test alone, in a house whose database is real."""
    use_database(settings, tmp_path / "home", monkeypatch)
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


def test_wrong_lines_are_reported_by_number_and_the_rest_is_remembered(
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


def test_a_file_may_mix_every_form_and_the_same_again_is_known(
    persona: str, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
    file = write(
        "mixed.jsonl",
        record(persona, 1),
        json.dumps({"messages": turns, "id": 7}),
        json.dumps({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        json.dumps({"instruction": "c", "input": "", "output": "d"}),
    )
    assert run(["karma", "import", file]) == 1
    out, err = told(capsys)
    assert out == "1 new, 0 known already, 3 wrong" and err.count("--persona") == 3
    words = ["karma", "import", file, "--persona", persona, "--consecrated-by", "me"]
    assert run(words) == 0
    assert told(capsys)[0] == "3 new, 1 known already, 0 wrong"
    assert run(words) == 0
    assert told(capsys)[0] == "0 new, 4 known already, 0 wrong"
    assert run(["karma", "stats"]) == 0
    assert told(capsys)[0].splitlines()[1].split()[:4] == [persona, "4", "3", "1"], "records, truths, speculative"


def test_an_array_of_one_form_is_imported_with_its_sessions(persona: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": f"q{n}", "output": f"a{n}", "talk": f"t{n % 3}"} for n in range(30)]
    Path("rows.json").write_text(json.dumps(rows, indent=1))
    words = ["karma", "import", "rows.json", "--format", "alpaca", "--persona", persona, "--session-by", "talk"]
    assert run(words) == 0
    assert run(["karma", "stats"]) == 0
    out = told(capsys)[0]
    assert "30 new, 0 known already, 0 wrong" in out and out.splitlines()[-1].split()[7] == "3", "sessions"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--format", "openai"], "name it with --persona"),
        (["--persona", "No Name"], "--persona: a name has small letters"),
        (["--persona", "p", "--consecrated-by", " "], "--consecrated-by: expected who"),
        (["--errors", "no/such/folder"], "--errors: no/such/folder cannot be written"),
    ],
)
def test_what_cannot_hold_for_any_record_is_reported_before_the_first(
    persona: str, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert run(["karma", "import", write("k.jsonl", record(persona, 1)), *words]) == 1
    assert says in " ".join(told(capsys)[1].split())


def test_every_wrong_line_stands_in_the_errors_file(persona: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("k.jsonl", *["{}"] * 33, record(persona, 1))
    assert run(["karma", "import", file, "--errors", "wrong.txt"]) == 1
    assert "all of them are in wrong.txt" in told(capsys)[1]
    assert [line.split()[0] for line in Path("wrong.txt").read_text().splitlines()] == [
        f"k.jsonl:{n}" for n in range(1, 34)
    ]


async def test_a_revoked_record_is_known_and_stays_out(persona: str, pool: Pool) -> None:
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ($1, 'me')", f"{persona}-1")
    file = write("k.jsonl", *(record(persona, number) for number in range(3)), record(persona, 3, status="revoked"))

    assert await asyncio.to_thread(run, ["karma", "import", file]) == 0

    rows = await pool.fetch("SELECT id FROM vectors.karma ORDER BY id")
    assert [row["id"] for row in rows] == [f"{persona}-0", f"{persona}-2", f"{persona}-3"]
    revoked = await pool.fetch("SELECT karma FROM revocation ORDER BY karma")
    assert [row["karma"] for row in revoked] == [f"{persona}-1", f"{persona}-3"], "it came revoked: revoked for good"


async def test_everything_that_a_record_says_is_stored(persona: str, pool: Pool) -> None:
    said = {
        "kind": "fix", "tools": [{"type": "function"}], "purposes": ["train", "show"], "feedback": "up", "parent": "x",
        "why": "w", "source": "s", "licence": "cc0", "trace_id": "t", "outcome": {"verdict": "ok", "evidence": "", "checks": []},
    }  # fmt: skip
    file = write("k.jsonl", record(persona, 1, **said, created_at="2026-01-01T00:00:00"), record(persona, 2))

    assert await asyncio.to_thread(run, ["karma", "import", file]) == 0

    full, bare = await pool.fetch("SELECT * FROM vectors.karma ORDER BY id")
    assert {name: full[name] for name in said} == said
    assert full["created_at"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert full["messages"] == json.loads(record(persona, 1))["messages"]
    assert (bare["kind"], bare["purposes"], bare["created_at"].year >= 2026) == ("interaction", ["train"], True)


async def test_what_postgresql_alone_refuses_is_reported_by_line_and_the_rest_is_stored(
    persona: str, pool: Pool, admin: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write("k.jsonl", *(record(persona, n, why="no" if n in (3, 77) else "yes") for n in range(200)))
    await admin.execute("ALTER TABLE vectors.karma ADD CONSTRAINT yes CHECK (why <> 'no')")
    try:
        assert await asyncio.to_thread(run, ["karma", "import", file]) == 1
    finally:
        await admin.execute("ALTER TABLE vectors.karma DROP CONSTRAINT yes")
    out, err = told(capsys)
    assert out == "198 new, 0 known already, 2 wrong"
    assert "k.jsonl:4 PostgreSQL refuses it" in err and "k.jsonl:78 PostgreSQL refuses it" in err


async def test_a_record_that_grows_over_the_limit_when_stored_is_reported_by_line(
    persona: str, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = [{"n": 1}] * (LARGEST_RECORD // 9)  # jsonb is written with a space after each colon and comma
    large = json.dumps(json.loads(record(persona, 1)) | {"tools": tools}, separators=(",", ":"))
    assert len(large) < LARGEST_RECORD
    assert await asyncio.to_thread(run, ["karma", "import", write("k.jsonl", record(persona, 0), large)]) == 1
    out, err = told(capsys)
    assert out == "1 new, 0 known already, 1 wrong" and "k.jsonl:2 PostgreSQL refuses it" in err


async def test_a_database_that_goes_away_is_reported_and_the_same_command_goes_on(
    house: House, persona: str, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 40_000
    file = write("k.jsonl", *(record(persona, number) for number in range(count)))
    watcher = await asyncpg.connect(house.settings.database_url("bootstrap"))

    async def stored() -> int:
        return int(await watcher.fetchval("SELECT count(*) FROM vectors.karma"))

    async def begun() -> bool:
        return await stored() > 2000

    importing = asyncio.create_task(asyncio.to_thread(run, ["karma", "import", file]))
    await eventually(begun, 30, "some records are stored")
    house.postgres.kill()
    watcher.terminate()
    assert await asyncio.wait_for(importing, 60) == 1
    said = " ".join(told(capsys)[1].split())
    assert "PostgreSQL does not answer" in said and "the same command continues from there" in said

    await eventually(partial(started_again, house), 30, "PostgreSQL is up again")
    assert await asyncio.to_thread(run, ["karma", "import", file]) == 0
    out = told(capsys)[0]
    new, known = int(out.split()[0]), int(out.split()[2])
    assert new + known == count and known > 2000 and new > 0, "what was stored stayed"


async def started_again(house: House) -> bool:
    """The processes of a killed server hold its memory for a moment; until they are gone no other one starts."""
    try:
        postgres.initialise(house.settings)
        await house.postgres.start()
    except (RuntimeError, PreflightError):
        return False
    return True


TURNS = [{"role": "user", "content": "What is due?"}, {"role": "assistant", "content": "The boiler. " * 40}]
RESULT = {"role": "tool", "tool_call_id": "c", "content": "geheimnis"}
BROKEN: dict[str, Any] = {
    "not JSON": lambda good: b"geheimnis " + good,
    "not JSON: truncated": lambda good: good[: len(good) // 2],
    "not UTF-8": lambda good: good.replace(b"boiler", b"boil\xe9r", 1),
    "an array, not a JSON object": lambda good: b"[" + good + b"]",
    "a number, not a JSON object": lambda good: b"4711",
    "no messages": lambda good: good.replace(b'"messages"', b'"geheimnis"'),
    "messages are empty": lambda good: altered(good, messages=[]),
    "messages.0.role: ": lambda good: good.replace(b'"user"', b'"geheimnis"'),
    "messages must end with an assistant": lambda good: altered(good, messages=TURNS[:1]),
    "messages.1: a tool result without": lambda good: altered(good, messages=[TURNS[0], RESULT, TURNS[1]]),
    "why: Input should be a valid string": lambda good: altered(good, why=5),
    "why: NUL character in text": lambda good: altered(good, why="geheimnis\0"),
    "half of a surrogate pair": lambda good: altered(good, why="geheimnis\ud83d"),
    "persona: String should match": lambda good: altered(good, persona="Geheimnis!"),
    "a white_truth needs consecrated_by": lambda good: altered(good, status="white_truth"),
    "id: String should have at most": lambda good: altered(good, id="geheimnis" * 30),
}


def altered(good: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(good) | values).encode()


def write_with_one_in_a_hundred_broken(file: Path, persona: str, count: int) -> dict[int, str]:
    """Write so many lines; the number of every broken one, and how it is broken. One is too long."""
    kinds, broken = list(BROKEN), dict[int, str]()
    with file.open("wb") as out:
        for number in range(1, count + 1):
            line = record(persona, number, messages=TURNS, session=f"s{number // 5}").encode()
            if number == 50_000:
                broken[number] = "longer than 1 MiB"
                line = altered(line, why="x" * 17 * 1024**2)
            elif number % 100 == 0:
                broken[number] = kinds[number // 100 % len(kinds)]
                line = BROKEN[broken[number]](line)
            out.write(line + b"\n")
    return broken


async def test_a_hundred_thousand_records_with_one_in_a_hundred_broken(
    persona: str, pool: Pool, tmp_path: Path, record_property: Any
) -> None:
    count = 100_000
    broken = write_with_one_in_a_hundred_broken(tmp_path / "k.jsonl", persona, count)
    assert len(broken) == count // 100 and len(set(broken.values())) == len(BROKEN) + 1

    seconds, peak_mb, code, out, err = await asyncio.to_thread(measured, "k.jsonl", "--errors", "wrong.txt")

    print(f"\nimport of {count} records: {seconds:.1f} s, {peak_mb:.0f} MB at most")
    record_property("seconds", round(seconds, 1))
    assert (code, out) == (1, f"{count - len(broken)} new, 0 known already, {len(broken)} wrong")
    wrong = [line.removeprefix("k.jsonl:").split(" ", 1) for line in Path("wrong.txt").read_text().splitlines()]
    assert [int(number) for number, _ in wrong] == list(broken)
    assert [(number, why) for number, why in wrong if not why.startswith(broken[int(number)])] == []
    assert "geheimnis" not in (err + Path("wrong.txt").read_text()).lower()
    assert err.count("k.jsonl:") == 20
    ids = {row["id"] for row in await pool.fetch("SELECT id FROM vectors.karma")}
    assert ids == {f"{persona}-{number}" for number in range(1, count + 1) if number not in broken}
    assert min(Counter(broken.values()).values()) >= 1
    assert seconds < 60 and peak_mb < 300


# A process started from here would count what this one held when it was started: Linux keeps the peak over an exec.
SMALL = (
    "import resource, subprocess, sys; from pathlib import Path; code = subprocess.call(sys.argv[1:]); "
    "Path('peak').write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)); sys.exit(code)"
)


def measured(*words: str) -> tuple[float, float, int, str, str]:
    """Seconds, greatest resident size in MB, exit code and output of an import in a process of its own."""
    with Path("out").open("w") as out, Path("err").open("w") as err:
        started = time.monotonic()
        code = subprocess.call(
            [sys.executable, "-c", SMALL, sys.executable, "-m", "deploy.cli.main", "karma", "import", *words],
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        seconds = time.monotonic() - started
    peak_mb = int(Path("peak").read_text()) / 1024
    return seconds, peak_mb, code, Path("out").read_text().strip(), Path("err").read_text()
