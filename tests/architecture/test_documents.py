"""What the documents point at is there, and every command that they show can be run as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.config.settings import PROJECT
from shared.contracts.intent import TrainingIntent
from tests.support.documented import (
    DOCUMENTS,
    NOT_RUN,
    SHORT_FORMS,
    Block,
    Command,
    list_code_blocks,
    list_commands,
    list_mentions,
    list_targets,
    list_unknown_lines,
    parse_soulforge,
)

RECORDS = [PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs/adr").glob("*.md"))]
RINGS = "shared|services|deploy|examples|tests|tools|bench|docs|requirements"


@pytest.mark.parametrize("document", [*DOCUMENTS, *RECORDS], ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text(encoding="utf-8"))

    assert [path for path in linked if not (document.parent / path).exists()] == []


# A record of a decision names the code of its day.
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(rf"`((?:{RINGS})/[\w./-]+)`", document.read_text(encoding="utf-8"))

    assert [path for path in named if not (PROJECT / path).exists()] == []


def test_every_target_that_a_document_names_is_in_the_makefile() -> None:
    named = {command.words[0] for command in [*list_commands("make"), *list_mentions("make")] if command.words}

    assert named - set(list_targets()) == set()
    assert "test" in named


def test_every_target_is_run_in_a_short_form_or_has_a_reason_why_not() -> None:
    assert {*SHORT_FORMS, *NOT_RUN} == set(list_targets())
    assert SHORT_FORMS.keys() & NOT_RUN.keys() == set()


@pytest.mark.parametrize("command", list_commands("soulforge"), ids=str)
def test_every_command_that_is_shown_is_taken_as_it_is_written(command: Command) -> None:
    parse_soulforge(command.words)


@pytest.mark.parametrize("command", list_mentions("soulforge"), ids=str)
def test_every_command_that_is_mentioned_is_there(command: Command) -> None:
    parse_soulforge((*command.words, "--help"))


# The command line of NATS is not installed: what it would publish is read as the harvester reads it.
@pytest.mark.parametrize("command", list_commands("nats"), ids=str)
def test_every_intent_that_is_shown_is_valid(command: Command) -> None:
    *_, subject, body = command.words

    assert subject == TrainingIntent.subject
    TrainingIntent.model_validate_json(body)


def test_every_line_of_shell_runs_a_program_that_these_tests_know() -> None:
    assert list_unknown_lines() == []


@pytest.mark.parametrize("block", list_code_blocks("python"), ids=lambda block: block.document)
def test_every_python_that_is_shown_compiles(block: Block) -> None:
    compile(block.text, block.document, "exec")
