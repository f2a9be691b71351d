"""The harvest on a real database: reproducible, with nothing on both sides of the split, and every record accounted for."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from services.harvester import store
from services.harvester.compile import Compiled, compile_manifest, refusal
from shared.artifacts import Artifacts
from shared.contracts.karma import KarmaRecord, Status
from shared.postgres import Pool
from shared.settings import PROJECT

SCRIBE = [
    KarmaRecord.model_validate_json(line)
    for line in (PROJECT / "examples" / "karma" / "scribe.jsonl").read_text().splitlines()
]


async def remember(pool: Pool, records: list[KarmaRecord]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        for record in records:
            await store.insert(conn, record)


async def compiled(pool: Pool, artifacts: Artifacts) -> Compiled:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        return await compile_manifest(conn, artifacts, "scribe")


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path)


async def test_the_same_karma_in_another_order_gives_the_same_digests(pool: Pool, artifacts: Artifacts) -> None:
    await remember(pool, SCRIBE)
    first = await compiled(pool, artifacts)
    await pool.execute("TRUNCATE vectors.karma")
    await remember(pool, random.Random(1).sample(SCRIBE, len(SCRIBE)))

    second = await compiled(pool, artifacts)

    assert (second.manifest, second.holdout) == (first.manifest, first.holdout)


async def test_every_record_is_used_or_excluded_with_a_reason(pool: Pool, artifacts: Artifacts) -> None:
    await remember(pool, SCRIBE)

    found = await compiled(pool, artifacts)

    assert found.seen == len(SCRIBE) == found.train + found.dev + found.held_out + len(found.exclusions)
    assert found.excluded.keys() == {"duplicate", "revoked", "superseded", "unconsecrated"}
    assert len(dict(found.exclusions)) == len(found.exclusions)


async def test_no_session_and_no_text_is_on_both_sides(pool: Pool, artifacts: Artifacts) -> None:
    await remember(pool, SCRIBE)
    found = await compiled(pool, artifacts)

    train = rows(artifacts.manifest(found.manifest) / "train.jsonl")
    held_out = rows(artifacts.holdout(found.holdout) / "holdout.jsonl")

    assert not {row["session"] for row in train} & {row["session"] for row in held_out}
    assert not {str(row["messages"]) for row in train} & {str(row["messages"]) for row in held_out}
    assert not list(artifacts.manifest(found.manifest).rglob("holdout*"))


async def test_a_duplicate_of_a_sealed_record_is_never_trained_on(pool: Pool, artifacts: Artifacts) -> None:
    await remember(pool, SCRIBE)
    before = await compiled(pool, artifacts)
    sealed = rows(artifacts.holdout(before.holdout) / "holdout.jsonl")[0]
    original = next(record for record in SCRIBE if record.id == sealed["id"])
    copies = [original.model_copy(update={"id": f"a-copy-{n}", "session": f"copies-{n}"}) for n in range(20)]
    await remember(pool, copies)

    after = await compiled(pool, artifacts)

    assert (after.train, after.dev, after.held_out) == (before.train, before.dev, before.held_out)
    assert after.excluded["duplicate"] == before.excluded["duplicate"] + 20


async def test_what_was_sealed_stays_sealed_when_its_session_is_joined_to_another(
    pool: Pool, artifacts: Artifacts
) -> None:
    await remember(pool, SCRIBE)
    before = await compiled(pool, artifacts)
    async with pool.acquire() as conn:
        await store.seal(conn, "scribe", before.sealed)
    trained = rows(artifacts.manifest(before.manifest) / "train.jsonl")[0]
    parent = next(record for record in SCRIBE if record.id == trained["id"])
    bridge = parent.model_copy(
        update={
            "id": "bridge",
            "session": rows(artifacts.holdout(before.holdout) / "holdout.jsonl")[0]["session"],
            "parent": parent.id,
            "status": Status.SPECULATIVE,
        }
    )
    await remember(pool, [bridge])

    after = await compiled(pool, artifacts)

    assert set(before.sealed) <= set(after.sealed)


async def test_a_persona_without_karma_is_refused_with_what_is_missing(pool: Pool, artifacts: Artifacts) -> None:
    assert "no karma" in str(refusal(await compiled(pool, artifacts), 40, 12))


async def test_too_little_karma_is_refused_with_counts_and_reasons(pool: Pool, artifacts: Artifacts) -> None:
    await remember(pool, SCRIBE[:20])
    found = await compiled(pool, artifacts)

    assert f"{found.train} records to train on, 40 needed" in str(refusal(found, 40, 12))
    assert refusal(found, 1, 0) is None
