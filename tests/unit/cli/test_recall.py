"""What a recall shows: for every record its manifests, rituals, adapters and names, and plainly what is not known."""

from __future__ import annotations

import io
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy.cli.commands import consecrate
from deploy.cli.commands.karma import gather_ids
from deploy.cli.console import SafeConsole
from deploy.cli.errors import UserError
from deploy.cli.views.karma import bar
from deploy.cli.views.recall import RecallReport, build_recall, recall_view
from services.harvester.views import KnownRecord
from services.registry.views import Outcome

RITUAL = UUID("6cb89406-0000-4000-8000-000000000000")
AT = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
MANIFEST = "sha256:" + "ab" * 32


def known(id: str, **values: Any) -> KnownRecord:
    return KnownRecord(**{"id": id, "persona": "scribe", "status": "white_truth", **values})


def outcome(**values: Any) -> Outcome:
    row = {"persona": "scribe", "state": "awakened", "version": "scribe@1", "withdrawn_at": None, "serves": True}
    return Outcome(RITUAL, **{**row, **values})


def shown(report: RecallReport) -> str:
    console = SafeConsole(file=io.StringIO(), width=120, record=True)
    for tree in recall_view(report):
        console.print(tree)
    return console.export_text()


def test_a_record_leads_to_the_name_that_serves_it() -> None:
    report = build_recall(["a"], {"a": known("a")}, {"a": (MANIFEST,)}, {MANIFEST: [outcome()]})

    assert shown(report).splitlines() == [
        "karma a  scribe, white_truth",
        "└── manifest abababababab",
        "    └── ritual 6cb89406  scribe  awakened",
        "        └── adapter scribe@1  serves as scribe",
    ]
    assert report.records[0].manifests[0].rituals[0].alias == "scribe"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (outcome(serves=False), "adapter scribe@1  no alias points to it"),
        (outcome(serves=False, withdrawn_at=AT), "adapter scribe@1  withdrawn 2026-11-20 08:30"),
        (outcome(serves=False, version=None, state="failed"), "ritual 6cb89406  scribe  failed"),
    ],
)
def test_what_became_of_the_adapter_is_reported(row: Outcome, expected: str) -> None:
    text = shown(build_recall(["a"], {"a": known("a")}, {"a": (MANIFEST,)}, {MANIFEST: [row]}))

    assert text.splitlines()[-1].endswith(expected)
    assert "serves" not in text


def test_a_revoked_record_says_when_by_whom_and_why_and_markup_in_it_is_text() -> None:
    row = known("[b]x", persona=None, status=None, revoked_at=AT, revoked_by="[red]her", why="mine")
    text = shown(build_recall(["[b]x"], {"[b]x": row}, {}, {}))

    assert text.splitlines() == [
        "karma [b]x  not remembered here, revoked 2026-11-20 08:30 by [red]her, mine",
        "└── in no manifest",
    ]


def test_what_nobody_knows_is_apart_from_what_is_only_used() -> None:
    report = build_recall(["gone", "nobody"], {}, {"gone": (MANIFEST,)}, {})

    assert report.unknown == ("nobody",)
    assert [(record.karma, record.persona) for record in report.records] == [("gone", None)]
    assert report.records[0].manifests[0].rituals == ()


def test_many_records_are_cut_in_the_picture_and_whole_in_the_document() -> None:
    ids = [f"k{number}" for number in range(50)]
    report = build_recall(ids, {id: known(id) for id in ids}, {}, {})

    assert shown(report).count("karma k") == 20 and "and 30 more records" in shown(report)
    assert len(RecallReport.model_validate_json(report.model_dump_json()).records) == 50


def test_ids_come_from_the_words_and_the_file_each_once(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_bytes(b"\xef\xbb\xbfb\r\n\r\n a \r\nc\n")

    assert gather_ids(["a", "a"], file) == ["a", "b", "c"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"a\0b\n", b"\xff\xfe\n"])
def test_a_file_without_readable_ids_is_a_user_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_bytes(content)

    with pytest.raises(UserError):
        gather_ids([], file)


@pytest.mark.parametrize("id", ["", " ", "x" * 201, "a\0b", "\udcff"])
def test_what_no_record_can_be_named_is_a_user_error(id: str) -> None:
    with pytest.raises(UserError, match="cannot be the id of a record"):
        gather_ids([id], None)


@pytest.mark.parametrize(
    ("content", "expected"), [(b"\xef\xbb\xbfOiled.\n", "Oiled."), (b"a\0b", None), (b"\xff", None), (b" \n", None)]
)
def test_the_right_answer_is_a_text_without_its_byte_order_mark(
    content: bytes, expected: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "answer"
    file.write_bytes(content)

    with pytest.raises(UserError) if expected is None else nullcontext():
        assert consecrate._text(file) == expected


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.5, 10), (0.999, 19), (1, 20), (7, 20), (-1, 0)])
def test_a_bar_is_full_only_at_the_threshold(share: float, full: int) -> None:
    assert bar(share) == "█" * full + "░" * (20 - full)
