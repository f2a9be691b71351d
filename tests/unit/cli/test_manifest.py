"""`soulforge manifest show`: which manifest is meant, its tables, and its picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.commands.manifest import choose, read_manifest, write_picture
from deploy.cli.console import out
from deploy.cli.errors import UserError
from deploy.cli.views.manifest import ManifestFile, draw, manifest_view, sort_counts
from services.harvester.views import Manifest
from shared.config.settings import Settings

ROWS = [
    Manifest(digest, persona, 10, 2, 3, datetime(2026, 11, 20, tzinfo=UTC), "sha256:ff")
    for digest, persona in (("sha256:ab12", "scribe"), ("sha256:cd34", "coder"), ("sha256:ab99", "scribe"))
]


def values(**more: Any) -> ManifestFile:
    statistics = {
        "lengths": {"train": {"128": 5, "1024": 2, "96": 9}},
        "tokens": {"train": 4000},
        "prompts": {"full": 3, "none": 13},
        "stated": {"why": 12, "evidence": 5},
        "consecrated_by": {"ida": 14, "[e-mail] 1": 2},
        "sources": {"home": 10, "web & co <x>": 6},
        "kinds": {"interaction": 16},
        "redacted": {"email": 2},
        "quarantined": {"github_token": 1},
        "concentration": {"session": {"s1": 4}, "source": {}},
        "contradictions": 2,
        "mark": {"created_at": "2026-05-01T00:00:00+00:00"},
    }
    files = {"train/00000.jsonl": {"rows": 10}, "train/00001.jsonl": {"rows": 6}, "pairs/00000.jsonl": {"rows": 2}}
    found = {
        "persona": "scribe", "holdout": "sha256:ff", "seen": 30, "used": 20, "files": files,
        "excluded": {"duplicate": 3, "near_duplicate": 7}, "statistics": statistics, **more,
    }  # fmt: skip
    return ManifestFile.model_validate(found)


def shown(manifest: ManifestFile) -> str:
    with out.capture() as captured:
        out.print(manifest_view("sha256:ab12", manifest))
    return captured.get()


@pytest.mark.parametrize(
    ("which", "digest"),
    [(None, "sha256:ab12"), ("scribe", "sha256:ab12"), ("cd", "sha256:cd34"), ("sha256:ab9", "sha256:ab99")],
)
def test_a_manifest_is_meant_by_its_digest_or_as_the_newest_of_a_persona(which: str | None, digest: str) -> None:
    assert choose(ROWS, which) == digest


@pytest.mark.parametrize(
    ("rows", "which", "expected"),
    [(ROWS, "ab", "more than one"), (ROWS, "zz", "names no manifest"), ([], None, "no manifest yet")],
)
def test_what_names_no_single_manifest_is_a_user_error(rows: list[Manifest], which: str | None, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        choose(rows, which)


def test_the_report_counts_what_is_in_and_what_is_out() -> None:
    shown_text = shown(values())

    assert "30 seen, 20 used, 10 left out" in shown_text
    assert "16 to train on, 2 preference pairs" in shown_text
    assert "3 full, 13 none" in shown_text
    assert "2 pairs of records, left out of preferences" in shown_text
    assert "12 state why, 5 have evidence" in shown_text
    assert "ida (14), [e-mail] 1 (2)" in shown_text
    assert shown_text.index("near_duplicate") < shown_text.index("duplicate  ")
    assert [line.split()[0] for line in shown_text.splitlines() if "█" in line][2:5] == ["96", "128", "1024"]


def test_lengths_come_by_size_and_the_rest_by_how_often() -> None:
    assert sort_counts({"1024": 9, "96": 1}) == [("96", 1), ("1024", 9)]
    assert sort_counts({"a": 1, "b": 5}) == [("b", 5), ("a", 1)]


def test_the_picture_is_sound_and_shows_every_number() -> None:
    picture = ET.fromstring(draw("sha256:ab12", values(excluded={f"reason-{n:02}": n + 1 for n in range(20)})))

    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert "web & co <x>" in texts and "scribe: 20 of 30 records used" in texts
    assert {"5", "2", "9", "10", "6", "20"} <= set(texts)
    assert "and 6 more" in texts
    height = float(picture.attrib["height"])
    assert all(float(element.attrib["y"]) < height for element in picture.iter() if element.tag.endswith("text"))
    assert "none" in draw("sha256:ab12", values(excluded={}))


def test_a_manifest_that_is_gone_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(Settings(home=tmp_path), "sha256:ab12")


def test_a_picture_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(tmp_path / "none" / "picture.svg", "<svg/>")
