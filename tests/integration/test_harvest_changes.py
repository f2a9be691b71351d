"""One change at a time between two harvests: the second goes on from the kept decision and sees all that the change affects."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.harvester.again import limits
from services.harvester.policy import HarvestPolicy
from services.harvester.reading import reader
from services.harvester.split import Split
from shared.contracts.karma import KarmaRecord
from shared.storage.postgres import Pool
from tests.support.decisions import cut_short, goes_on, reason, same
from tests.support.harvests import record, remember, side_of_session

WORDS = random.Random(11)
PASSAGE, OTHER, THIRD = (" ".join(WORDS.choices([f"w{n}" for n in range(400)], k=60)) for _ in range(3))


def sessions(side: Split) -> list[str]:
    return [name for name in map("session-{:03d}".format, range(300)) if side_of_session(name) is side]


TRAIN, HELD = sessions(Split.TRAIN), sessions(Split.HOLDOUT)
#: So that a harvest is not refused, and what it holds out is sealed.
ENOUGH = [record("usual", TRAIN[-1], "Who are you?", "The scribe."), record("kept", HELD[-1], "Who am I?", "My owner.")]


def policy(**values: Any) -> HarvestPolicy:
    return HarvestPolicy.model_validate({"likeness": {"by_words": False, "by_meaning": False}, **values})


async def begin(pool: Pool, folder: Path, *records: KarmaRecord, **values: Any) -> None:
    await remember(pool, [*ENOUGH, *records])
    found = await same(pool, folder, **values)
    assert found.decision and found.decision.mark


async def test_a_near_duplicate_comes_back_when_what_it_repeated_says_something_else(
    pool: Pool, tmp_path: Path
) -> None:
    alike = policy(likeness={"jaccard": 0.6, "by_meaning": False})
    first = record("first", TRAIN[0], "Tell me.", f"{PASSAGE} at last", created_at="2026-04-01T00:00:00Z")
    await begin(pool, tmp_path, first, record("again", TRAIN[1], "Tell me.", f"{PASSAGE} in the end"), policy=alike)
    await pool.execute(
        "UPDATE vectors.karma SET messages = (SELECT messages FROM vectors.karma WHERE id = 'usual') WHERE id = 'first'"
    )

    found = await goes_on(pool, tmp_path, policy=alike)

    assert await reason(pool, found, "again") is None


async def test_near_duplicates_that_are_found_later_are_seen_though_no_record_changed(
    pool: Pool, tmp_path: Path
) -> None:
    one, other = record("one", TRAIN[0], "Tell me.", PASSAGE), record("other", TRAIN[1], "Say.", OTHER)
    await begin(pool, tmp_path, one, other, policy=policy())
    await pool.execute(
        "INSERT INTO near_duplicate (karma, other, persona, likeness, measure) VALUES ('one', 'other', 'scribe', 0.99, 'cosine')"
    )

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "other") == "near_duplicate"


async def test_a_session_that_is_joined_to_the_holdout_under_its_own_name_leaves_its_passages_to_nobody(
    pool: Pool, tmp_path: Path
) -> None:
    passages = policy(common_passage=2)
    early, held = TRAIN[0], next(name for name in HELD if name > TRAIN[0])
    await begin(
        pool,
        tmp_path,
        record("joins", early, "Tell me.", f"{PASSAGE} {OTHER}"),
        record("shares", TRAIN[1], "Tell me.", f"{PASSAGE} {THIRD}"),
        record("sealed", held, "Sing.", "La."),
        policy=passages,
    )
    await remember(pool, [record("link", early, "Sing.", "La la.", parent="sealed")])

    found = await goes_on(pool, tmp_path, policy=passages)

    assert await reason(pool, found, "shares") == "contaminated"


async def test_sessions_that_a_sealed_one_leaves_are_no_longer_held_out(pool: Pool, tmp_path: Path) -> None:
    one, two = TRAIN[:2]
    held = next(name for name in HELD if name > two)
    await begin(pool, tmp_path, record("sealed", held, "Sing.", "La."), policy=policy())
    await remember(
        pool,
        [
            record("first", one, "Say.", "No.", status="speculative"),
            record("second", two, "Say.", "Yes.", status="speculative", parent="first"),
        ],
    )
    await pool.execute("UPDATE vectors.karma SET parent = 'second' WHERE id = 'sealed'")
    await goes_on(pool, tmp_path, policy=policy())
    await pool.execute("UPDATE vectors.karma SET parent = NULL WHERE id = 'sealed'")

    await goes_on(pool, tmp_path, policy=policy())


async def test_a_correction_whose_words_come_again_still_rejects_what_it_rejected(pool: Pool, tmp_path: Path) -> None:
    wrong = record("wrong", TRAIN[0], "How do I list files?", "Use dir.")
    right = record("right", TRAIN[0], "How do I list files?", "Use ls.", parent="wrong")
    await begin(pool, tmp_path, wrong, right, policy=policy())
    await remember(
        pool,
        [record("twin", TRAIN[1], "How do I list files?", "Use ls.", created_at="2026-06-01T00:00:00Z")],
    )

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "twin") == "duplicate"
    assert found.rows["pairs"] == 1


async def test_a_benchmark_item_in_a_new_record_is_seen(pool: Pool, tmp_path: Path) -> None:
    item = "The opposite of heaven is hell. The opposite of early is late"
    await begin(pool, tmp_path, policy=policy())
    await remember(pool, [record("leak", TRAIN[0], "Teach me.", f"Well: {item}, you see.")])

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "leak") == "contaminated"


async def test_a_record_that_goes_and_comes_back_as_another_is_decided_about_as_that(
    pool: Pool, tmp_path: Path
) -> None:
    await begin(pool, tmp_path, record("one", TRAIN[0], "Say.", "No."), policy=policy())
    await pool.execute("DELETE FROM vectors.karma WHERE id = 'one'")
    await remember(pool, [record("one", HELD[0], "Sing.", "La.", created_at="2026-02-01T00:00:00Z")])

    await goes_on(pool, tmp_path, policy=policy())
    await pool.execute("DELETE FROM vectors.karma WHERE id = 'one'")
    found = await same(pool, tmp_path, policy=policy())

    assert found.seen == len(ENOUGH)


async def test_a_record_that_goes_over_to_another_persona_is_gone_from_the_first(pool: Pool, tmp_path: Path) -> None:
    both = [record("theirs", TRAIN[1], "Hum.", "Mm.", persona="bard"), record("held", HELD[0], "Hum.", "Mmm.")]
    await begin(pool, tmp_path, record("one", TRAIN[0], "Say.", "No."), *both, policy=policy())
    await pool.execute("UPDATE vectors.karma SET persona = 'bard' WHERE id = ANY ('{one,held}')")

    found = await same(pool, tmp_path, policy=policy())
    theirs = await same(pool, tmp_path, persona="bard", policy=policy())

    assert (found.seen, theirs.seen) == (len(ENOUGH), 3)
    assert (await same(pool, tmp_path, policy=policy())).seen == len(ENOUGH)


async def test_what_is_read_of_other_personas_does_not_matter(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEW", 1)
    await begin(pool, tmp_path, policy=policy())
    await remember(pool, [record(f"theirs-{n}", f"{TRAIN[n]}", "Hum.", f"Mm {n}.", persona="bard") for n in range(9)])
    await same(pool, tmp_path, persona="bard", policy=policy())

    await goes_on(pool, tmp_path, policy=policy())


async def test_what_a_transaction_writes_that_was_open_at_the_decision_is_seen_by_the_next(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    late = await asyncpg.connect(database)
    try:
        await remember(pool, [*ENOUGH, record("one", TRAIN[0], "Say.", "No.")])
        async with late.transaction():
            await late.execute("SELECT pg_current_xact_id()")
            found = await same(pool, tmp_path, policy=policy())
            assert await reason(pool, found, "one") is None
            await goes_on(pool, tmp_path, policy=policy())
            await late.execute(
                "UPDATE harvester.reading SET status = 'speculative', read_in = DEFAULT WHERE karma = 'one'"
            )
        found = await goes_on(pool, tmp_path, policy=policy())
    finally:
        await late.close()

    assert await reason(pool, found, "one") == "unconsecrated"


async def test_to_revoke_an_id_without_karma_changes_nothing_until_its_record_comes(pool: Pool, tmp_path: Path) -> None:
    await begin(pool, tmp_path, record("one", TRAIN[0], "Say.", "No."), policy=policy())
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('none', 'ida')")
    found = await goes_on(pool, tmp_path, policy=policy())
    assert await reason(pool, found, "one") is None
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, status, consecrated_by, session) "
        "SELECT 'none', persona, messages, status, consecrated_by, $1 FROM vectors.karma WHERE id = 'one'",
        TRAIN[1],
    )

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "none") == "revoked"
    assert await reason(pool, found, "one") == "repeats_revoked"


async def test_records_that_are_read_in_another_way_are_cut_into_segments_in_that_way(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch, 3)
    await begin(
        pool, tmp_path, *(record(f"r{n}", TRAIN[n], f"Say {n}.", f"{n}, then.") for n in range(20)), policy=policy()
    )
    monkeypatch.setattr(reader, "FORMAT", reader.FORMAT + 1)
    cut_short(monkeypatch, 5)

    await same(pool, tmp_path, policy=policy())


async def test_where_a_record_that_begins_a_segment_moves_in_time_so_does_the_cut(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch, 3)
    days = [
        record(f"r{n}", TRAIN[n], f"Say {n}.", f"{n}, then.", created_at=f"2026-06-{n + 1:02d}T00:00:00Z")
        for n in range(20)
    ]
    await begin(pool, tmp_path, *days, policy=policy())
    first = await pool.fetchval("SELECT karma FROM reading WHERE cut AND karma LIKE 'r%' ORDER BY created_at LIMIT 1")
    await pool.execute("UPDATE vectors.karma SET created_at = '2026-06-25' WHERE id = $1", first)

    await same(pool, tmp_path, policy=policy())


async def test_what_was_held_out_before_stays_so_when_its_words_come_again(pool: Pool, tmp_path: Path) -> None:
    await pool.execute("INSERT INTO sealed (persona, karma) VALUES ('scribe', 'once')")
    await begin(pool, tmp_path, record("once", TRAIN[1], "Sing.", "La."), policy=policy())
    await remember(pool, [record("again", TRAIN[0], "Sing.", "La.", created_at="2026-02-01T00:00:00Z")])

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "again") == "duplicate"


async def test_a_revocation_concerns_all_that_has_the_words_of_the_record(pool: Pool, tmp_path: Path) -> None:
    one, twin = record("one", TRAIN[0], "Say.", "No."), record("twin", TRAIN[1], "Say.", "No.")
    await begin(pool, tmp_path, one, twin, policy=policy())
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('one', 'ida')")

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "one") == "revoked"
    assert await reason(pool, found, "twin") == "repeats_revoked"


async def test_the_words_that_a_revoked_record_no_longer_says_may_be_used_elsewhere(pool: Pool, tmp_path: Path) -> None:
    bad = record("bad", TRAIN[0], "Say.", "No.", status="revoked")
    await begin(pool, tmp_path, bad, record("twin", TRAIN[1], "Say.", "No."), policy=policy())
    await pool.execute(
        "UPDATE vectors.karma SET messages = (SELECT messages FROM vectors.karma WHERE id = 'usual') WHERE id = 'bad'"
    )

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "twin") is None
    assert await reason(pool, found, "usual") == "repeats_revoked"


async def test_a_duplicate_that_comes_to_be_held_out_takes_the_place_of_what_it_repeated(
    pool: Pool, tmp_path: Path
) -> None:
    joins, sealed = TRAIN[1], record("sealed", HELD[0], "Sing.", "La.")
    one, twin = record("one", TRAIN[0], "Say.", "No."), record("twin", joins, "Say.", "No.")
    await begin(pool, tmp_path, one, twin, sealed, policy=policy())
    await remember(pool, [record("link", joins, "Sing.", "La la.", parent="sealed")])

    found = await goes_on(pool, tmp_path, policy=policy())

    assert await reason(pool, found, "one") == "duplicate"
    assert await reason(pool, found, "twin") is None
