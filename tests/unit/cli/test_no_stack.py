"""Errors without a stack, or with arguments that cannot be used: one line, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.cli.main import run
from deploy.home import claim

NOWHERE = "127.0.0.1:1"  # reserved, and nothing listens there
NO_FOLDER = "/nowhere"
RECORD = (
    '{"id": "a", "persona": "scribe", "session": "s", '
    '"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
)


# Every command of this file answers at once: a server that is away is not waited for.
pytestmark = pytest.mark.timeout(10)


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home where nothing answers."""
    monkeypatch.setenv("SOULFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOULFORGE_PORT_BASE", "1024")
    monkeypatch.setenv("SOULFORGE_DATABASE", f"postgresql://soulforge:geheim@/soulforge?host={NO_FOLDER}")
    monkeypatch.setenv("SOULFORGE_DATABASE_ROLES", "one")
    monkeypatch.setenv("SOULFORGE_NATS", f"nats://soulforge:geheim@{NOWHERE}")
    (tmp_path / "karma.jsonl").write_text(RECORD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    assert "geheim" not in shown.err + shown.out
    lines = shown.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), shown.err
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    "words",
    [
        "karma import karma.jsonl",
        "karma stats",
        "watch",
        "watch 6cb8",
        "rituals",
        "show 6cb8",
        "cancel 6cb8",
        "reclaim",
        "reclaim anvil0 --for 2h --no-wait",
        "accept",
        "adapters",
        "adapters promote scribe@0123",
        "adapters history scribe",
        "approve scribe",
        "dead-letters list",
        "dead-letters show forge/1",
        "dead-letters replay forge/1",
    ],
)
def test_a_database_that_is_away_is_reported_in_one_line(
    words: str, down: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 1
    line = one_line(capsys)
    assert line.startswith(f"PostgreSQL does not answer at {NO_FOLDER} (")
    assert line.endswith("is the stack up? `soulforge up`")


def test_a_bus_that_is_away_is_reported_in_one_line(down: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["intend", "scribe"]) == 1
    line = one_line(capsys)
    assert line.startswith(f"NATS does not answer at {NOWHERE} (") and line.endswith("`soulforge up`")


def test_an_embedded_database_that_was_never_made_is_reported_in_one_line(
    down: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SOULFORGE_DATABASE")
    monkeypatch.delenv("SOULFORGE_DATABASE_ROLES")
    assert run(["rituals"]) == 1
    assert "run `soulforge up` once" in one_line(capsys)


def test_one_role_without_a_database_of_the_owners_is_refused(
    down: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SOULFORGE_DATABASE")
    assert run(["up"]) == 1
    shown = one_line(capsys)
    assert shown.startswith("SOULFORGE_DATABASE_ROLES cannot be used") and "set SOULFORGE_DATABASE too" in shown


@pytest.mark.parametrize("words", ["ask scribe hello", "ask scribe hello --base"])
def test_a_gateway_that_is_away_is_reported_in_one_line(
    words: str, down: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 1
    line = one_line(capsys)
    assert line.startswith("the gateway does not answer at 127.0.0.1:") and line.endswith("`soulforge up`")


def test_migrate_gives_up_after_its_deadline(
    down: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "DEADLINE_S", 0.2)
    claim(down / "home")
    assert run(["migrate"]) == 1
    assert NOWHERE in one_line(capsys)


def test_status_shows_every_part_as_away_and_fails(down: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 1
    shown = capsys.readouterr().out
    for part in (
        "postgres",
        "nats",
        "harvester",
        "orchestrator",
        "forge",
        "verifier",
        "registry",
        "gateway",
        "door",
        "rune",
    ):
        assert any(line.startswith(f"✗  {part} ") for line in shown.splitlines()), part
    assert not (down / "home").exists(), "asking made a home"


def test_status_goes_on_when_the_configuration_cannot_be_used(
    down: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (down / "wrong.toml").write_text("[anvils")
    monkeypatch.setenv("SOULFORGE_CONFIG", str(down / "wrong.toml"))
    assert run(["status"]) == 1
    shown = capsys.readouterr().out
    assert "✗  configuration" in shown and "is not TOML" in shown and "✗  nats" in shown


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SOULFORGE_PORT_BASE", "many", "SOULFORGE_PORT_BASE cannot be used"),
        (
            "SOULFORGE_DATABASE",
            "not a url",
            "SOULFORGE_DATABASE cannot be used: Value error, a URL of PostgreSQL begins",
        ),
        ("SOULFORGE_DATABASE", "mysql://x@y/z", "SOULFORGE_DATABASE cannot be used"),
        ("SOULFORGE_DATABASE", "postgresql://x:geheim@127.0.0.1/z", "by TLS or by its socket"),
        ("SOULFORGE_DATABASE", "postgresql://x:geheim@h/z?sslmode=require", "by TLS or by its socket"),
        ("SOULFORGE_DATABASE", "postgresql://x:geheim@/z", "by TLS or by its socket"),
        ("SOULFORGE_DATABASE", "postgresql://x:geheim@/z?host=/run,h", "by TLS or by its socket"),
        ("SOULFORGE_DATABASE", "postgresql://x:geheim@h/z?host=/run", "by TLS or by its socket"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    variable: str,
    value: str,
    expected: str,
    down: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert run(["rituals"]) == 1
    assert expected in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["intend", "Bad Name"], "PERSONA cannot be used"),
        (["intend", "scribe", "--priority", "12"], "--priority cannot be used"),
        (["reclaim", "--for", "soon"], "'soon' is not a duration: write it like 30s, 10m or 2h"),
        (["reclaim", "--for", "8d"], "--for cannot be used"),
        (["reclaim", "--why", "x" * 2001], "--why cannot be used"),
        (["reclaim", "nowhere"], "there is no anvil 'nowhere'; there are: anvil0"),
        (["accept", "nowhere"], "there is no anvil 'nowhere'; there are: anvil0"),
        (["karma", "import", "missing.jsonl"], "missing.jsonl does not exist"),
        (["karma", "import", "."], "is a directory"),
        (["karma", "import", "binary"], "binary is not a text file"),
        (["karma", "import", "empty"], "empty is empty"),
    ],
)
def test_a_user_error_is_reported_before_any_server_is_asked(
    words: list[str], expected: str, down: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (down / "binary").write_bytes(b"GGUF\0\0\0\3")
    (down / "empty").write_bytes(b"\n  \n")
    assert run(words) == 1
    assert expected in one_line(capsys)
