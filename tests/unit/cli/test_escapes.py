"""What comes from outside cannot command a terminal: every way in which the console prints makes it visible."""

from __future__ import annotations

import io
import json
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.progress import Progress, TextColumn
from rich.segment import Segment, Segments
from rich.status import Status
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from deploy.cli import console
from deploy.cli.console import SafeConsole
from deploy.cli.main import run
from deploy.cli.views.config import to_toml
from deploy.cli.views.manifest import draw
from shared.contracts.visible import visible
from tests.support.escapes import ALL, MARKS, PAYLOADS, raw_controls
from tests.unit.cli.test_manifest import values

each = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())


def table(text: str) -> Table:
    found = Table("what", title=text, caption=text)
    found.add_row(text)
    found.add_row(Text(text, "red"))
    return found


PRINTED: dict[str, Callable[[str], None]] = {
    "error": console.print_error,
    "note": console.print_note,
    "plain": console.print_plain,
    "text": console.print_text,
    "json": lambda text: console.print_json({text: [text]}),
    "string": lambda text: console.out.print(text),
    "unwrapped": lambda text: console.err.print(text, style="red", soft_wrap=True),
    "styled": lambda text: console.out.print(Text.assemble((text, "bold"), text)),
    "table": lambda text: console.out.print(table(text)),
    "tree": lambda text: console.out.print(Tree(text)),
    "segments": lambda text: console.out.print(Segments([Segment(text)])),
}


def test_there_are_forty_payloads_and_each_has_something_to_find() -> None:
    assert len(PAYLOADS) >= 40
    assert all(raw_controls(payload) for name, payload in PAYLOADS.items() if "markup" not in name)


@each
@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED.keys())
def test_no_way_of_printing_lets_a_control_character_through(
    payload: str, printed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    printed(payload)

    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert raw_controls(text) == []
    assert payload[:3] in text, "it is shown"


def test_what_is_hidden_is_shown_as_its_escape() -> None:
    assert visible("\x1b[31m\x9b \u202e \u2028 \U000e0041 \x7f \r") == r"\x1b[31m\x9b \u202e \u2028 \U000e0041 \x7f \r"
    assert visible("half \ud83d of a pair") == r"half \ud83d of a pair"
    assert visible("naïve\t“ß”\n👩‍👩‍👧 می‌خواهم 日本") == "naïve\t“ß”\n👩‍👩‍👧 می‌خواهم 日本"


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_a_text_in_parts_becomes_what_the_whole_does(first: str, second: str) -> None:
    assert visible(first) + visible(second) == visible(first + second)
    assert raw_controls(visible(first)) == []
    assert visible(visible(first)) == visible(first)


@each
def test_a_sequence_that_is_cut_anywhere_is_never_whole_again(payload: str) -> None:
    for cut in range(len(payload)):
        assert raw_controls(visible(payload[:cut]) + visible(payload[cut:])) == []


@each
def test_on_a_terminal_only_own_colours_pass(payload: str) -> None:
    terminal = SafeConsole(
        file=io.StringIO(), width=400, force_terminal=True, color_system="standard", legacy_windows=False
    )

    terminal.print(Text(payload.replace("\n", " "), "red"))
    terminal.print(payload.replace("\n", " "))

    shown = visible(payload.replace("\n", " "))
    assert terminal.file.getvalue() == f"\x1b[31m{shown}\x1b[0m\n{shown}\n"  # type: ignore[attr-defined]


def drawn(text: str) -> str:
    """What a terminal is sent for a bar, a status and a live view with this text."""
    terminal = SafeConsole(file=io.StringIO(), width=400, force_terminal=True, color_system=None, legacy_windows=False)
    with Progress(TextColumn("{task.description}", markup=False), console=terminal, auto_refresh=False) as progress:
        progress.add_task(text, total=1)
    with Status(Text(text), console=terminal, spinner="line"):
        pass
    with Live(Text(text), console=terminal, auto_refresh=False, transient=True) as live:
        live.update(table(text), refresh=True)
    return terminal.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@each
def test_a_live_view_sends_the_same_sequences_whatever_text_it_has(payload: str) -> None:
    plain = "".join(letter if letter.isprintable() else "x" for letter in payload)

    assert len(raw_controls(drawn(payload.replace("\n", " ")))) == len(raw_controls(drawn(plain)))


def test_a_table_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    found = Table()
    for text in (*PAYLOADS.values(), ALL):
        found.add_row(text, Text(text), "end")
    console.out.print(found)

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 60
    assert {Text(line).cell_len for line in lines} == {console.PIPED_WIDTH}
    assert set(MARKS) == {mark for mark in MARKS if any(mark in line for line in lines)}


def test_json_is_ascii_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"text": ALL})

    shown = capsys.readouterr().out
    assert shown.isascii() and json.loads(shown) == {"text": ALL}


def test_a_configuration_that_is_shown_can_be_used_again() -> None:
    assert tomllib.loads(visible(to_toml({"key": ALL}))) == {"key": ALL}


def test_a_picture_holds_no_control_character_and_is_xml() -> None:
    counts = {payload: number for number, payload in enumerate(PAYLOADS.values(), start=1)}
    hostile = values(persona=ALL, excluded=counts)

    svg = draw(
        ALL, hostile.model_copy(update={"statistics": hostile.statistics.model_copy(update={"sources": counts})})
    )

    assert raw_controls(svg) == []
    assert "<39" in "".join(ET.fromstring(svg).itertext())


@each
def test_wrong_usage_does_not_print_what_was_given(payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [payload],
        ["intend", "scribe", payload],
        ["intend", "scribe", "--priority", payload],
        [f"--{payload}"],
    ):
        assert run(words) == 2

    shown = capsys.readouterr()
    assert raw_controls(shown.out + shown.err) == [] and payload[:3] in shown.err
