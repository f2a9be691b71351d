"""When a kept decision is gone on from, and when it is not believed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.harvester import store
from services.harvester.again import kept
from services.harvester.policy import HarvestPolicy, Shares
from services.harvester.split import Split
from shared.storage.postgres import Pool
from tests.support.decisions import cut_short
from tests.support.harvests import example, harvested, record, remember, session_on

SCRIBE = example("scribe")
NEW = [record(f"new-{n}", f"later-{n}", f"What is {n} times {n}?", f"{n * n}, by my count.") for n in range(3)]


class Killed(BaseException):
    """What the end of a process looks like to the code in it."""


async def anew(pool: Pool, home: Path, **values: Any) -> bool:
    found, _ = await harvested(pool, home, **values)
    assert found.decision
    return found.decision.anew


async def digest_from_nothing(pool: Pool, home: Path) -> str:
    await pool.execute("DELETE FROM kept_decision")
    found, _ = await harvested(pool, home)
    assert found.decision and found.decision.anew
    return found.manifest


async def test_a_later_harvest_goes_on_from_the_kept_decision(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    assert await anew(pool, tmp_path)
    await remember(pool, NEW)

    assert not await anew(pool, tmp_path)
    assert not await anew(pool, tmp_path)
    records, whole = await pool.fetchrow("SELECT records, sealed_whole FROM kept_decision") or (0, False)
    assert (records, whole) == (len(SCRIBE) + len(NEW), True)


async def test_another_policy_other_kinds_and_records_sealed_meanwhile_are_decided_anew(
    pool: Pool, tmp_path: Path
) -> None:
    await remember(pool, SCRIBE)
    await harvested(pool, tmp_path)
    policy = HarvestPolicy.model_validate({"split": {"holdout": 0.3}, "likeness": {"by_meaning": False}})

    assert await anew(pool, tmp_path, policy=policy)
    assert await anew(pool, tmp_path, kinds=("interaction",))
    assert not await anew(pool, tmp_path, kinds=("interaction",))
    await pool.execute(
        "INSERT INTO sealed (persona, karma) SELECT 'scribe', karma FROM reading LIMIT 400 ON CONFLICT DO NOTHING"
    )
    assert await anew(pool, tmp_path, kinds=("interaction",))


async def test_where_two_ways_of_deciding_alternate_each_gives_what_it_gave(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"kinds": ("interaction",)},
        {
            "policy": HarvestPolicy.model_validate(
                {"likeness": {"by_meaning": False}, "redaction": {"personal": "quarantine"}}
            )
        },
    )
    first = [(await harvested(pool, tmp_path, **values))[0].manifest for values in ways]

    again = [await harvested(pool, tmp_path, **values) for values in ways]

    assert [found.manifest for found, _ in again] == first
    assert all(found.decision and found.decision.anew for found, _ in again)


async def test_a_decision_of_another_release_is_not_believed(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(pool, SCRIBE)
    await harvested(pool, tmp_path)
    monkeypatch.setattr(kept, "FORMAT", kept.FORMAT + 1)

    assert await anew(pool, tmp_path)
    assert not await anew(pool, tmp_path)


async def test_a_harvest_at_an_earlier_mark_or_by_a_query_keeps_nothing_and_spoils_nothing(
    pool: Pool, tmp_path: Path
) -> None:
    await remember(pool, SCRIBE)
    first, _ = await harvested(pool, tmp_path)
    for values in ({"until": "2026-03-01T00:00:00Z"}, {"wanted": [SCRIBE[0].id]}):
        assert await anew(pool, tmp_path, **values)

    found, _ = await harvested(pool, tmp_path)

    assert found.decision and not found.decision.anew
    assert found.manifest == first.manifest


async def test_after_a_crash_of_the_server_everything_is_decided_anew(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    first, _ = await harvested(pool, tmp_path)
    assert first.decision
    table = first.decision.table
    unlogged = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'harvester'::regnamespace AND relpersistence = 'u' AND relkind = 'r'"
    )
    assert {"kept_decision", "reading", table.split(".")[1]} <= {row["relname"] for row in unlogged}
    await pool.execute(f"TRUNCATE {', '.join('harvester.' + row['relname'] for row in unlogged)}")  # as a crash does

    found, _ = await harvested(pool, tmp_path)

    assert found.decision and found.decision.anew
    assert found.manifest == first.manifest


async def test_a_decision_whose_tables_were_dropped_is_not_believed(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    found, _ = await harvested(pool, tmp_path)
    assert found.decision
    await pool.execute(f"DROP TABLE {found.decision.table}_cluster")

    assert await anew(pool, tmp_path)


async def test_after_a_revocation_was_struck_out_everything_is_decided_anew(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ($1, 'ida')", SCRIBE[0].id)
    await harvested(pool, tmp_path)
    await pool.execute("DELETE FROM revocation")

    assert await anew(pool, tmp_path)


async def test_a_first_decision_that_was_not_whole_is_not_believed(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(pool, SCRIBE)

    async def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kept, "keep", killed)
        with pytest.raises(Killed):
            await harvested(pool, tmp_path)

    assert await anew(pool, tmp_path)


@pytest.mark.parametrize("where", ["store.place_again", "kept.write"])
async def test_a_change_that_was_not_whole_leaves_the_kept_decision_as_it_was(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await remember(pool, SCRIBE)
    await harvested(pool, tmp_path)
    await remember(pool, NEW)

    async def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        owner, name = where.split(".")
        patch.setattr({"store": store, "kept": kept}[owner], name, killed)
        with pytest.raises(Killed):
            await harvested(pool, tmp_path)
    found, _ = await harvested(pool, tmp_path)

    assert found.decision and not found.decision.anew
    assert found.manifest == await digest_from_nothing(pool, tmp_path)


async def test_a_harvest_that_ends_before_it_seals_is_made_up_for(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch, 40)  # several segments, most of which the new records leave as they are
    await remember(pool, SCRIBE)

    async def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kept, "seal", killed)
        with pytest.raises(Killed):
            await harvested(pool, tmp_path)
    await remember(pool, NEW)
    found, _ = await harvested(pool, tmp_path)

    assert found.decision and not found.decision.anew
    assert await pool.fetchval("SELECT count(*) FROM sealed") == found.rows["holdout"] > 0


async def test_a_session_beyond_its_share_is_decided_about_anew_each_time(pool: Pool, tmp_path: Path) -> None:
    train = session_on(Split.TRAIN)
    flood = [record(f"flood-{n}", train, f"Say number {n} {n * 7}.", f"{n * 13} it is, {n}.") for n in range(30)]
    policy = HarvestPolicy.model_validate(
        {"shares": Shares(session=0.1, session_floor=20), "likeness": {"by_words": False, "by_meaning": False}}
    )
    await remember(pool, flood[:20])
    first, _ = await harvested(pool, tmp_path, policy=policy)
    await remember(pool, flood[20:])

    for _ in range(2):
        found, _ = await harvested(pool, tmp_path, policy=policy)
        assert found.decision and found.decision.anew
        assert found.excluded == {"session_share": 10}
    assert first.excluded == {}


async def test_harvests_of_one_persona_at_a_time_give_the_same(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    await harvested(pool, tmp_path)
    await remember(pool, NEW)

    both = await asyncio.gather(harvested(pool, tmp_path), harvested(pool, tmp_path))

    assert both[0][0].manifest == both[1][0].manifest == await digest_from_nothing(pool, tmp_path)


async def test_a_segment_that_is_cut_in_two_is_written_as_two(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch, 40)
    await remember(pool, SCRIBE[::2])
    before, _ = await harvested(pool, tmp_path)
    await remember(pool, SCRIBE[1::9])

    found, _ = await harvested(pool, tmp_path)

    assert found.decision and not found.decision.anew
    assert len(found.segments) > len(before.segments)
    assert found.manifest == await digest_from_nothing(pool, tmp_path)


async def test_a_correction_no_longer_shows_an_answer_whose_words_were_revoked_elsewhere(
    pool: Pool, tmp_path: Path
) -> None:
    train = session_on(Split.TRAIN)
    said = ("How do I list files?", "Use dir.")
    await remember(
        pool,
        [
            record("wrong", train, *said),
            record("right", train, "How do I list files?", "Use ls.", parent="wrong"),
            record("twin", "elsewhere", *said),
        ],
    )
    before, _ = await harvested(pool, tmp_path)
    await pool.execute("UPDATE vectors.karma SET status = 'revoked' WHERE id = 'twin'")

    found, _ = await harvested(pool, tmp_path)

    assert found.decision and not found.decision.anew
    assert (before.rows["pairs"], found.rows["pairs"]) == (1, 0)
    assert found.manifest == await digest_from_nothing(pool, tmp_path)
