"""One change at a time between two harvests: the second sees all that the change affects."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from services.harvester.policy import HarvestPolicy
from services.harvester.split import Split
from shared.contracts.karma import KarmaRecord
from shared.storage.postgres import Pool
from tests.support.harvests import (
    example,
    harvested,
    open_rows,
    reasons,
    record,
    remember,
    sealed_rows,
    side_of_session,
)

WORDS = random.Random(11)
PASSAGE, OTHER, THIRD = (" ".join(WORDS.choices([f"w{n}" for n in range(400)], k=60)) for _ in range(3))


def sessions(side: Split) -> list[str]:
    return [name for name in map("session-{:03d}".format, range(300)) if side_of_session(name) is side]


TRAIN, HELD = sessions(Split.TRAIN), sessions(Split.HOLDOUT)
SCRIBE = example("scribe")
#: So that a harvest is not refused, and what it holds out is sealed.
ENOUGH = [record("usual", TRAIN[-1], "Who are you?", "The scribe."), record("kept", HELD[-1], "Who am I?", "My owner.")]


def policy(**values: Any) -> HarvestPolicy:
    return HarvestPolicy.model_validate({"likeness": {"by_words": False, "by_meaning": False}, **values})


async def begin(pool: Pool, folder: Path, *records: KarmaRecord, **values: Any) -> None:
    await remember(pool, [*ENOUGH, *records])
    await harvested(pool, folder, **values)


async def test_a_near_duplicate_comes_back_when_what_it_repeated_says_something_else(
    pool: Pool, tmp_path: Path
) -> None:
    alike = policy(likeness={"jaccard": 0.6, "by_meaning": False})
    first = record("first", TRAIN[0], "Tell me.", f"{PASSAGE} at last", created_at="2026-04-01T00:00:00Z")
    await begin(pool, tmp_path, first, record("again", TRAIN[1], "Tell me.", f"{PASSAGE} in the end"), policy=alike)
    await pool.execute(
        "UPDATE vectors.karma SET messages = (SELECT messages FROM vectors.karma WHERE id = 'usual') WHERE id = 'first'"
    )

    await harvested(pool, tmp_path, policy=alike)

    assert "again" not in await reasons(pool)


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

    await harvested(pool, tmp_path, policy=passages)

    assert (await reasons(pool))["shares"] == "contaminated"


async def test_a_session_that_leaves_the_lineage_of_a_sealed_one_is_no_longer_held_out(
    pool: Pool, admin: Pool, tmp_path: Path
) -> None:
    session, held = TRAIN[0], HELD[0]
    await begin(
        pool,
        tmp_path,
        record("sealed", held, "Sing.", "La."),
        record("wrong", session, "Say.", "No.", status="speculative"),
        record("right", session, "Rest.", "Yes.", kind="advice"),
        policy=policy(),
        kinds=("interaction",),
    )
    await pool.execute("UPDATE vectors.karma SET parent = 'wrong' WHERE id = 'sealed'")
    joined, _ = await harvested(pool, tmp_path, policy=policy(), wanted=["right"])
    assert [row["id"] for row in sealed_rows(tmp_path, joined)] == ["right"]
    await admin.execute("DELETE FROM sealed WHERE karma = 'right'; UPDATE vectors.karma SET parent = NULL")

    found, _ = await harvested(pool, tmp_path, policy=policy())

    assert {"right", "usual"} == {row["id"] for row in open_rows(tmp_path, found)}


async def test_a_correction_whose_words_come_again_still_rejects_what_it_rejected(pool: Pool, tmp_path: Path) -> None:
    wrong = record("wrong", TRAIN[0], "How do I list files?", "Use dir.")
    right = record("right", TRAIN[0], "How do I list files?", "Use ls.", parent="wrong")
    await begin(pool, tmp_path, wrong, right, policy=policy())
    await remember(
        pool,
        [record("twin", TRAIN[1], "How do I list files?", "Use ls.", created_at="2026-06-01T00:00:00Z")],
    )

    found, _ = await harvested(pool, tmp_path, policy=policy())

    assert (await reasons(pool))["twin"] == "duplicate"
    assert found.rows["pairs"] == 1


async def test_a_benchmark_item_in_a_new_record_is_seen(pool: Pool, tmp_path: Path) -> None:
    item = "The opposite of heaven is hell. The opposite of early is late"
    await begin(pool, tmp_path, policy=policy())
    await remember(pool, [record("leak", TRAIN[0], "Teach me.", f"Well: {item}, you see.")])

    await harvested(pool, tmp_path, policy=policy())

    assert (await reasons(pool))["leak"] == "contaminated"


async def test_a_record_that_goes_and_comes_back_as_another_is_decided_about_as_that(
    pool: Pool, admin: Pool, tmp_path: Path
) -> None:
    await begin(pool, tmp_path, record("one", TRAIN[0], "Say.", "No."), policy=policy())
    await admin.execute("DELETE FROM vectors.karma WHERE id = 'one'")
    await remember(pool, [record("one", HELD[0], "Sing.", "La.", created_at="2026-02-01T00:00:00Z")])

    await harvested(pool, tmp_path, policy=policy())
    await admin.execute("DELETE FROM vectors.karma WHERE id = 'one'")
    found, _ = await harvested(pool, tmp_path, policy=policy())

    assert found.seen == len(ENOUGH)


async def test_a_record_that_goes_over_to_another_persona_is_gone_from_the_first(pool: Pool, tmp_path: Path) -> None:
    both = [record("theirs", TRAIN[1], "Hum.", "Mm.", persona="bard"), record("held", HELD[0], "Hum.", "Mmm.")]
    await begin(pool, tmp_path, record("one", TRAIN[0], "Say.", "No."), *both, policy=policy())
    await pool.execute("UPDATE vectors.karma SET persona = 'bard' WHERE id = ANY ('{one,held}')")

    found, _ = await harvested(pool, tmp_path, policy=policy())
    theirs, _ = await harvested(pool, tmp_path, persona="bard", policy=policy())

    assert (found.seen, theirs.seen) == (len(ENOUGH), 3)
    again, _ = await harvested(pool, tmp_path, policy=policy())
    assert again.seen == len(ENOUGH)


async def test_to_revoke_an_id_without_karma_changes_nothing_until_its_record_comes(pool: Pool, tmp_path: Path) -> None:
    await begin(pool, tmp_path, record("one", TRAIN[0], "Say.", "No."), policy=policy())
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('none', 'ida')")
    await harvested(pool, tmp_path, policy=policy())
    assert "one" not in await reasons(pool)
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, status, consecrated_by, session) "
        "SELECT 'none', persona, messages, status, consecrated_by, $1 FROM vectors.karma WHERE id = 'one'",
        TRAIN[1],
    )

    await harvested(pool, tmp_path, policy=policy())

    assert (await reasons(pool))["none"] == "revoked"
    assert (await reasons(pool))["one"] == "repeats_revoked"


async def test_what_was_held_out_before_stays_so_when_its_words_come_again(pool: Pool, tmp_path: Path) -> None:
    await pool.execute("INSERT INTO sealed (persona, karma) VALUES ('scribe', 'once')")
    await begin(pool, tmp_path, record("once", TRAIN[1], "Sing.", "La."), policy=policy())
    await remember(pool, [record("again", TRAIN[0], "Sing.", "La.", created_at="2026-02-01T00:00:00Z")])

    await harvested(pool, tmp_path, policy=policy())

    assert (await reasons(pool))["again"] == "duplicate"


async def test_a_revocation_concerns_all_that_has_the_words_of_the_record(pool: Pool, tmp_path: Path) -> None:
    one, twin = record("one", TRAIN[0], "Say.", "No."), record("twin", TRAIN[1], "Say.", "No.")
    await begin(pool, tmp_path, one, twin, policy=policy())
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('one', 'ida')")

    await harvested(pool, tmp_path, policy=policy())

    assert (await reasons(pool))["one"] == "revoked"
    assert (await reasons(pool))["twin"] == "repeats_revoked"


async def test_the_words_that_a_revoked_record_no_longer_says_may_be_used_elsewhere(pool: Pool, tmp_path: Path) -> None:
    bad = record("bad", TRAIN[0], "Say.", "No.", status="revoked")
    await begin(pool, tmp_path, bad, record("twin", TRAIN[1], "Say.", "No."), policy=policy())
    await pool.execute(
        "UPDATE vectors.karma SET messages = (SELECT messages FROM vectors.karma WHERE id = 'usual') WHERE id = 'bad'"
    )

    await harvested(pool, tmp_path, policy=policy())

    assert "twin" not in await reasons(pool)
    assert (await reasons(pool))["usual"] == "repeats_revoked"


async def test_a_duplicate_that_comes_to_be_held_out_takes_the_place_of_what_it_repeated(
    pool: Pool, tmp_path: Path
) -> None:
    joins, sealed = TRAIN[1], record("sealed", HELD[0], "Sing.", "La.")
    one, twin = record("one", TRAIN[0], "Say.", "No."), record("twin", joins, "Say.", "No.")
    await begin(pool, tmp_path, one, twin, sealed, policy=policy())
    await remember(pool, [record("link", joins, "Sing.", "La la.", parent="sealed")])

    await harvested(pool, tmp_path, policy=policy())

    assert (await reasons(pool))["one"] == "duplicate"
    assert "twin" not in await reasons(pool)


async def test_what_is_harvested_of_other_personas_does_not_matter(pool: Pool, tmp_path: Path) -> None:
    await begin(pool, tmp_path, policy=policy())
    before, _ = await harvested(pool, tmp_path, policy=policy())
    await remember(pool, [record(f"theirs-{n}", f"{TRAIN[n]}", "Hum.", f"Mm {n}.", persona="bard") for n in range(9)])
    await harvested(pool, tmp_path, persona="bard", policy=policy())

    after, _ = await harvested(pool, tmp_path, policy=policy())

    assert (after.manifest, after.seen) == (before.manifest, len(ENOUGH))


async def test_where_two_policies_alternate_each_gives_what_it_gave(pool: Pool, tmp_path: Path) -> None:
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"kinds": ("interaction",)},
        {"policy": policy(redaction={"personal": "quarantine"})},
        {"until": "2026-03-01T00:00:00Z"},
        {"wanted": [SCRIBE[0].id]},
    )
    await remember(pool, SCRIBE)
    first = [(await harvested(pool, tmp_path, **values))[0].manifest for values in ways]

    again = [(await harvested(pool, tmp_path, **values))[0].manifest for values in ways]

    assert again == first


async def test_a_correction_does_not_show_an_answer_whose_words_were_revoked_elsewhere(
    pool: Pool, tmp_path: Path
) -> None:
    train = TRAIN[0]
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

    assert (before.rows["pairs"], found.rows["pairs"]) == (1, 0)
