"""`soulforge adapters`: the system prompts that a version replaces."""

from __future__ import annotations

from pathlib import Path

from deploy.cli.commands.adapters import PROMPT_SHOWN, _print_replaced
from deploy.cli.console import out
from services.registry.bundle import SIDECAR
from services.registry.views import RegisteredVersion
from shared.contracts.harvest import SystemPrompt
from tests.support.bundles import sidecar, write_evidence
from tests.support.escapes import ALL, raw_controls
from tests.unit.cli.rows import RITUAL, START


def shown(folder: Path, *prompts: SystemPrompt) -> str:
    """What is printed of a version whose bundle has these prompts."""
    made = sidecar("sha256:a", *write_evidence(folder, "sha256:a")).model_copy(update={"replaces": prompts or None})
    (folder / SIDECAR).write_text(made.model_dump_json(), encoding="utf-8")
    version = RegisteredVersion(
        "scribe@a", "scribe", "sha256:a", "sha256:b", RITUAL, str(folder), START, True, None, ("champion",), ()
    )
    with out.capture() as captured:
        _print_replaced(version)
    return captured.get()


def test_a_prompt_that_is_replaced_is_shown_with_its_digest_rows_and_beginning(tmp_path: Path) -> None:
    text = "You are the scribe.\n" + "Write it down. " * 20
    line = shown(tmp_path, SystemPrompt(digest="sha256:" + "c" * 64, text=text, rows={"none": 120, "full": 30}))

    expected = "scribe@a replaces the system prompt cccccccccccc (rows: 30 full, 120 none): You are the scribe. Write"
    assert line.startswith(expected) and line.endswith("…\n") and len(line) < len(expected) + PROMPT_SHOWN


def test_a_hostile_prompt_is_shown_as_it_is_and_an_adapter_that_replaces_none_has_no_line(tmp_path: Path) -> None:
    assert raw_controls(shown(tmp_path, SystemPrompt(digest="sha256:c", text=ALL, rows={"none": 1}))) == []
    assert shown(tmp_path) == ""
