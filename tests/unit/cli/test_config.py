"""`soulforge config`: what is wrong with a file, what it means, and the file that it amounts to."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from deploy.cli.main import run
from deploy.cli.views.config import effective_values, to_toml, without_password
from deploy.services import SECTIONS
from shared.config.load import read
from shared.config.settings import PROJECT, Settings
from tests.support.isolation import WHY, let_isolate

EXAMPLES = PROJECT / "examples" / "soulforge"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.toml"))


@pytest.fixture(autouse=True)
def _house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONFIG", "PORT_BASE"):
        monkeypatch.delenv(f"SOULFORGE_{name}", raising=False)
    monkeypatch.setenv("SOULFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    let_isolate(monkeypatch)


def test_a_wrong_file_is_refused_with_every_place_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text("[anvils.a]\ncolour = 1\n[runes.r]\nport = 'x'\n[covens]\n")
    assert run(["config", "check", "bad.toml"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err
    assert shown.err.startswith("error: bad.toml has 2 faults:\n  anvils.a.colour: unknown key; ")
    assert "\n  runes.r.port: Input should be a valid integer" in shown.err


def test_a_syntax_error_is_reported_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "soulforge.toml").write_text("\nforge = \n")
    for words in ("check", "show"):
        assert run(["config", words]) == 1
        assert "soulforge.toml is not TOML: Invalid value (at line 2, column 9)" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_right_and_shown_in_tables(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(EXAMPLES / f"{name}.toml")]) == 0
    shown_text = capsys.readouterr().out
    configuration = read(EXAMPLES / f"{name}.toml", Settings(), SECTIONS)
    for word in (*configuration.anvils, *configuration.runes, *configuration.queues, "takes the anvil", "jobs"):
        assert word in shown_text
    for port in configuration.ports(Settings()).values():
        assert str(port) in shown_text


def test_two_anvils_are_reported_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(EXAMPLES / "two-anvils.toml")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(line for line in lines if line[:1] == ["large"])[-2:] == ["only", "serves"]
    assert next(line for line in lines if line[:1] == ["small"])[-1] == "trains"
    assert "none" not in next(line for line in lines if line[:1] == ["personas"])
    assert "none" in next(line for line in lines if line[:1] == ["reasoner"])


def test_without_a_file_the_built_in_house_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check"]) == 0
    shown = capsys.readouterr()
    assert "anvil0" in shown.out and "there is no soulforge.toml" in shown.err


def test_whether_this_machine_isolates_the_jobs_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["config", "check"]) == 0
    assert "jobs are isolated" in capsys.readouterr().out
    let_isolate(monkeypatch, WHY)
    assert run(["config", "check"]) == 0
    assert f"✗  isolation      {WHY}" in capsys.readouterr().out
    (tmp_path / "soulforge.toml").write_text("[jobs]\nallow_unisolated = true\n")
    assert run(["config", "check"]) == 0
    assert "!  isolation      jobs run UNISOLATED" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_a_file_that_means_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", "show", str(EXAMPLES / f"{name}.toml")]) == 0
    (tmp_path / "again.toml").write_text(capsys.readouterr().out)
    first, again = (
        read(EXAMPLES / f"{name}.toml", Settings(), SECTIONS),
        read(tmp_path / "again.toml", Settings(), SECTIONS),
    )
    assert again.ports(Settings()) == first.ports(Settings())
    assert again.serving_runes() == first.serving_runes()
    assert effective_values(again, Settings()) == effective_values(first, Settings())


def test_json_and_toml_show_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(EXAMPLES / "gpu.toml")
    assert run(["config", "show", file]) == 0
    written = tomllib.loads(capsys.readouterr().out)
    assert run(["config", "show", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert written["runes"]["chat"]["health"] == "/health"  # a default
    assert "port" not in written["runes"]["chat"]


def test_odd_words_survive_being_written() -> None:
    values = {
        "runes": {"r": {"env": {"A B": 'quote " back \\ line \n tab \t é \x7f [bold]'}, "arguments": ["a", "{b}"]}}
    }
    assert tomllib.loads(to_toml(values)) == values


def test_passwords_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (EXAMPLES / "gpu.toml").read_text().replace("lych@", "lych:geheim@")
    (tmp_path / "mine.toml").write_text(text.replace("NCCL_P2P_DISABLE", 'HF_TOKEN = "geheim", NCCL_P2P_DISABLE'))
    assert run(["config", "show", "mine.toml"]) == 0
    shown = capsys.readouterr().out
    assert "geheim" not in shown and "lych:…@/lych?host=/var/run" in shown and 'NCCL_P2P_DISABLE = "1"' in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:u@h/d", "postgresql://u:…@h/d"),
        ("postgresql://h/d?user=u&password=p%20q&x=1", "postgresql://h/d?user=u&password=…&x=1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "example", name]) == 0
    assert capsys.readouterr().out == (EXAMPLES / f"{name}.toml").read_text()


def test_without_a_name_the_examples_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "example"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES
    assert run(["config", "example", "nix"]) == 1
    assert f"there is no example nix; there are: {', '.join(NAMES)}" in capsys.readouterr().err
