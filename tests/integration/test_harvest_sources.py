"""A harvest of named sources: what is trained, what is watched, and what stays sealed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg

from services.harvester.split import Split
from shared.config.settings import Settings
from shared.contracts.karma import KarmaRecord
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool
from tests.support.harvests import (
    harvested,
    open_rows,
    reasons,
    record,
    remember,
    sealed_rows,
    session_on,
    side_of_session,
)

FILES: dict[str, Any] = {"sources": ("train.jsonl",), "dev_sources": ("dev.jsonl",)}
WORDS = ("river", "anvil", "ember", "quill", "lantern", "meadow")


def records(source: str, count: int, first: int = 0) -> list[KarmaRecord]:
    """Records of one source, each of a session of its own, in words of their own."""
    return [
        record(
            f"{source}-{n}",
            f"{source} session {n}",
            f"What of {WORDS[n % 6]} {source} {n}?",
            f"{n} times {WORDS[n // 6 % 6]} in {source}.",
            source=source,
        )
        for n in range(first, first + count)
    ]


def ids(rows: list[dict[str, str]]) -> set[str]:
    return {row["id"] for row in rows}


async def test_the_sources_of_dev_are_dev_and_the_others_are_split_without_one(pool: Pool, tmp_path: Path) -> None:
    train, dev = records("train.jsonl", 30), records("dev.jsonl", 30)
    await remember(pool, [*train, *dev, *records("other.jsonl", 3)])

    found, missing = await harvested(pool, tmp_path, **FILES)

    assert missing is None
    held = {one.id for one in train if side_of_session(one.session) is Split.HOLDOUT}
    assert held and {side_of_session(one.session) for one in (*train, *dev)} == set(Split), "all sides are tried"
    assert ids(sealed_rows(tmp_path, found)) == held
    assert ids(open_rows(tmp_path, found)) == {one.id for one in train} - held
    assert ids(open_rows(tmp_path, found, "dev")) == {one.id for one in dev}
    assert set((await reasons(pool)).values()) == {"filtered"} and found.excluded == {"filtered": 3}
    asked = json.loads((Artifacts(tmp_path).manifest(found.manifest) / "manifest.json").read_text())["asked"]
    assert asked["sources"] == ["train.jsonl"] and asked["dev_sources"] == ["dev.jsonl"]


async def test_without_sources_all_karma_is_trained_but_that_of_dev(pool: Pool, tmp_path: Path) -> None:
    train, dev = records("train.jsonl", 30), records("dev.jsonl", 5)
    await remember(pool, [*train, *dev])

    found, _ = await harvested(pool, tmp_path, dev_sources=("dev.jsonl",))

    assert ids(open_rows(tmp_path, found, "dev")) == {one.id for one in dev}
    assert ids(open_rows(tmp_path, found)) | ids(sealed_rows(tmp_path, found)) == {one.id for one in train}


async def test_what_is_sealed_stays_sealed_whatever_source_an_intent_names(pool: Pool, tmp_path: Path) -> None:
    both = [*records("train.jsonl", 30), *records("dev.jsonl", 30)]
    await remember(pool, both)
    before, _ = await harvested(pool, tmp_path)
    sealed = ids(sealed_rows(tmp_path, before))
    assert any(id.startswith("dev") for id in sealed)

    after, _ = await harvested(pool, tmp_path, **FILES)

    assert ids(sealed_rows(tmp_path, after)) == sealed
    assert not sealed & (ids(open_rows(tmp_path, after)) | ids(open_rows(tmp_path, after, "dev")))


async def test_a_record_that_belongs_to_one_of_dev_is_not_trained(pool: Pool, tmp_path: Path) -> None:
    session = session_on(Split.TRAIN)
    await remember(
        pool,
        [
            record("watched", session, "Why?", "Because.", source="dev.jsonl"),
            record("same-session", session, "How?", "So.", source="train.jsonl"),
            record("same-words", "elsewhere", "Why?", "Because.", source="train.jsonl"),
            record("wrong", session, "Where?", "Nowhere.", source="dev.jsonl"),
            record("correction", "another", "Where?", "There.", source="train.jsonl", parent="wrong"),
            *records("train.jsonl", 30),
        ],
    )

    found, _ = await harvested(pool, tmp_path, **FILES)

    assert {"same-session", "correction"} <= ids(open_rows(tmp_path, found, "dev"))
    assert (await reasons(pool))["same-words"] == "duplicate"
    assert not {"watched", "same-session", "same-words", "correction"} & ids(open_rows(tmp_path, found))


async def test_the_gateway_counts_the_records_of_a_source_and_reads_no_more(pool: Pool, settings: Settings) -> None:
    await remember(
        pool,
        [*records("a.jsonl", 3), record("s", "one", "Why?", "So.", source="a.jsonl", status="speculative")],
    )
    await remember(pool, [record("long", "one", "Why?", "No.", source="x" * 201)])
    connection = await asyncpg.connect(settings.database_url("gateway"))
    try:
        counted = await connection.fetch("SELECT * FROM public.karma_source ORDER BY status")
        await connection.execute("SET enable_seqscan = off")  # the table is small
        plan = await connection.fetch("EXPLAIN SELECT * FROM public.karma_source WHERE source = 'a.jsonl'")
    finally:
        await connection.close()

    assert [tuple(row) for row in counted] == [
        ("a.jsonl", "scribe", "speculative", 1),
        ("a.jsonl", "scribe", "white_truth", 3),
    ]
    assert "karma_of_source" in str(plan)
