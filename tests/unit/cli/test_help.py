"""The commands that there are, and that their help is instant."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from deploy.cli.main import app, run

COMMANDS = [
    "accept",
    "adapters",
    "adapters history",
    "adapters pin",
    "adapters promote",
    "adapters reject",
    "adapters retire",
    "adapters rollback",
    "adapters unpin",
    "approve",
    "ask",
    "cancel",
    "compare",
    "config check",
    "config example",
    "config show",
    "dead-letters list",
    "dead-letters replay",
    "dead-letters show",
    "doctor",
    "down",
    "intend",
    "karma consecrate",
    "karma correct",
    "karma explain",
    "karma import",
    "karma reject",
    "karma revoke",
    "karma stats",
    "keys add",
    "keys list",
    "keys revoke",
    "manifest list",
    "manifest show",
    "migrate",
    "pause",
    "prune",
    "recall",
    "reclaim",
    "reject",
    "report",
    "resume",
    "rituals",
    "runes create",
    "show",
    "status",
    "up",
    "verify",
    "watch",
]
HEAVY = ("asyncpg", "nats", "httpx", "faststream", "shared.config.settings", "rich.progress")


def _commands() -> dict[str, str]:
    """Every command's words and its help."""
    found: dict[str, str] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        own = {} if hasattr(command, "commands") and not command.invoke_without_command else {"": command}
        for inner, sub in {**own, **getattr(command, "commands", {})}.items():
            found[f"{name} {inner}".strip()] = sub.help or ""
    return found


def test_these_are_the_commands() -> None:
    assert sorted(_commands()) == COMMANDS


def test_every_command_says_in_one_short_sentence_what_it_does() -> None:
    for name, text in _commands().items():
        first = text.split("\n\n")[0]
        assert first.endswith(".") and 10 < len(first) <= 60, f"{name}: {first!r}"


@pytest.mark.parametrize("words", [[], *(command.split() for command in COMMANDS)], ids=" ".join)
def test_help_is_shown_for_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown_and_nothing_is_complained_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr()
    assert "Usage:" in shown.out and "error" not in shown.err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from deploy.cli.main import run; run(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bogus"], "No such command 'bogus' (see `soulforge --help`)"),
        (["up", "--bogus"], "No such option: --bogus (see `soulforge up --help`)"),
        (["ask", "scribe"], "(see `soulforge ask --help`)"),
        (["intend", "scribe", "--priority", "high"], "(see `soulforge intend --help`)"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and expected in error
