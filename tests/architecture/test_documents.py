"""What the documents point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.config.settings import PROJECT

DOCUMENTS = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").rglob("*.md")]
RINGS = "shared|services|deploy|examples|tests|bench|docs|requirements"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    linked = [document.parent / path for path in re.findall(r"\]\((?!https?:)([^)#\s]+)", text)]
    named = [PROJECT / path for path in re.findall(rf"`((?:{RINGS})/[\w./-]+)`", text)]

    assert [path for path in linked + named if not path.exists()] == []


def test_every_target_that_the_readme_names_is_in_the_makefile() -> None:
    named = re.findall(r"(?:^|`)make ([a-z-]+)", (PROJECT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(named) <= set(targets)
    assert "test" in named
