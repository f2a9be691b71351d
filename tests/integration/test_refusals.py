"""What a harvest refuses, and an import: with the ids, the counts and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.harvester.policy import HarvestPolicy
from services.harvester.split import Split
from shared.contracts.karma import KarmaRecord, Status
from shared.storage.postgres import Pool
from tests.support.consents import Tell, told
from tests.support.harvests import harvested, open_rows, reasons, record, remember, sealed_rows, session_on

__all__ = ["told"]  # the fixture

TRAIN, DEV, HELD = (session_on(side) for side in Split)


def truth(id: str, session: str = TRAIN, parent: str | None = None, **values: Any) -> KarmaRecord:
    return record(id, session, f"What is {id}?", f"It is {id}, of course.", parent=parent, **values)


def some(count: int, session: str = TRAIN, **values: Any) -> list[KarmaRecord]:
    numbers = range(count)
    return [record(f"r{n:02}", session, f"Say {n} {n * 7}.", f"{n * 13} it is, {n}.", **values) for n in numbers]


def policy(**values: Any) -> HarvestPolicy:
    return HarvestPolicy.model_validate({"likeness": {"by_words": False, "by_meaning": False}, **values})


@pytest.mark.parametrize(("session", "side"), [(HELD, "holdout"), (DEV, "dev")])
async def test_one_session_that_is_no_training_data_is_named_with_what_to_do(
    pool: Pool, tmp_path: Path, session: str, side: str
) -> None:
    await remember(pool, some(40, session))

    _, missing = await harvested(pool, tmp_path, policy=policy())

    assert missing == (
        f"0 records to train on, 1 needed: 40 of 40 records can be used. All are of one session ({session}) or of sessions that "
        f"corrections or logs join to it, and so all are in {side}: a session is never split. Give separate work a `session` of its own "
        "(`--session-by` of `soulforge karma import`), or add other sessions. `soulforge karma explain ID` shows what becomes of "
        "one record"
    )


async def test_one_session_that_is_all_training_data_leaves_no_holdout(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, some(40))

    _, missing = await harvested(pool, tmp_path, policy=policy())

    assert missing and missing.startswith(
        "no viable holdout: 0 records in it, 1 needed to carry a verdict: 40 of 40 records"
    )
    assert f"one session ({TRAIN})" in missing and "all are in train" in missing


async def test_sessions_that_all_fell_to_one_side_are_counted_with_the_shares(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [truth(f"t{n}", f"s{n}") for n in range(6)])

    _, missing = await harvested(pool, tmp_path, policy=policy(split={"holdout": 0.89, "dev": 0.45}))

    assert missing and missing.startswith("0 records to train on, 1 needed: 6 of 6 records can be used. They are ")
    assert (
        "in holdout (sessions: " in missing
        and "0.89 of them to the holdout and, without `dev_sources`, 0.45 to dev" in missing
    )


async def test_sessions_that_are_all_alike_are_duplicates_of_one_record(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [record(f"t{n}", f"s{n}", "Why?", "Because.") for n in range(9)])

    _, missing = await harvested(pool, tmp_path)

    assert missing and "1 of 9 records can be used" in missing
    assert "Left out: 8 duplicate (" in missing and "the same words are trained once" in missing


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"licences": []}, "40 licence (r00, r01, r02, …): `harvest.licences` in soulforge.toml accepts none: add theirs"),
        ({"purpose": "sell"}, "40 no_consent (r00, r01, r02, …): their `purposes` do not name sell, which `harvest.purpose`"),
        ({"lengths": {"row": 5}}, "40 too_long (r00, r01, r02, …): raise `harvest.lengths.row` (now 5 tokens)"),
        ({"lengths": {"budget": 1}}, "40 over_budget (r00, r01, r02, …): raise `harvest.lengths.budget` (now 1 tokens)"),
        ({"shares": {"source": 0.01}}, "40 source_share (r00, r01, r02, …): raise `harvest.shares.source` (now 0.01 of the rows)"),
        ({"shares": {"sources": {"import": 0.0}}}, "40 source_share (r00, r01, r02, …): raise `harvest.shares.source` (now 1 of"),
    ],
)  # fmt: skip
async def test_a_policy_that_leaves_nothing_is_named_by_its_key(
    pool: Pool, tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    await remember(pool, some(40))

    _, missing = await harvested(pool, tmp_path, policy=policy(**values))

    assert missing and missing.startswith(f"none of 40 records can be used: {expected}")


async def test_of_many_reasons_the_commonest_are_named_with_ids_and_the_others_counted(
    pool: Pool, tmp_path: Path
) -> None:
    await remember(
        pool,
        [
            *(truth(f"l{n}", licence="none") for n in range(4)),
            *(truth(f"c{n}", purposes=["search"]) for n in range(3)),
            *(truth(f"u{n}", status=Status.SPECULATIVE, consecrated_by=None) for n in range(2)),
            truth("k", kind="gossip"),
        ],
    )

    _, missing = await harvested(pool, tmp_path, kinds=("interaction",))

    assert missing and missing.startswith("none of 10 records can be used: 4 licence (l0, l1, l2, …): ")
    assert "; 3 no_consent (c0, c1, c2): " in missing and "; 2 unconsecrated (u0, u1): vouch for those" in missing
    assert missing.endswith("; 1 filtered. `soulforge karma explain ID` shows what becomes of one record")


async def test_an_id_that_holds_an_address_is_named_with_a_placeholder(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [truth("to ida@garden.net", licence="none")])

    _, missing = await harvested(pool, tmp_path)

    assert missing and "1 licence (to [e-mail] 1): " in missing


def speculative(id: str, parent: str) -> KarmaRecord:
    return truth(id, parent=parent, status=Status.SPECULATIVE, consecrated_by=None)


@pytest.mark.parametrize(
    ("links", "circle"),
    [
        ({"a": "b", "b": "a", "self": "self"}, {"a", "b", "self"}),
        ({f"r{n:03}": f"r{(n + 1) % 200:03}" for n in range(200)}, {f"r{n:03}" for n in range(200)}),
        ({"a": "b", "b": "c", "c": "a", "leaf": "a", "of leaf": "leaf"}, {"a", "b", "c"}),
        ({"a": "b", "b": "a", "c": "d", "d": "c", "e": "elsewhere"}, {"a", "b", "c", "d"}),
    ],
)
async def test_a_circle_of_parents_is_a_reason_of_its_own(
    pool: Pool, tmp_path: Path, links: dict[str, str], circle: set[str]
) -> None:
    await remember(pool, [truth(id, parent=parent) for id, parent in links.items()])

    found, missing = await harvested(pool, tmp_path, policy=policy())

    assert {karma for karma, reason in (await reasons(pool)).items() if reason == "circle"} == circle
    assert found.excluded["circle"] == len(circle)
    assert missing and f"{len(circle)} circle ({', '.join(sorted(circle)[:3])}" in missing
    assert "each names the next as what it corrects" in missing


async def test_a_circle_that_an_owner_does_not_vouch_for_is_none(pool: Pool, tmp_path: Path) -> None:
    await remember(
        pool, [truth("a", parent="b"), speculative("b", "a"), truth("c", parent="d"), truth("d", parent="c")]
    )
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('d', 'ida')")

    found, _ = await harvested(pool, tmp_path, policy=policy())

    assert [row["id"] for row in open_rows(tmp_path, found)] == ["a", "c"]
    assert await reasons(pool) == {"b": "superseded", "d": "revoked"}


async def test_a_correction_of_a_record_in_a_circle_is_trained(pool: Pool, tmp_path: Path) -> None:
    await remember(
        pool, [truth("a", parent="b"), truth("b", parent="a"), truth("right", parent="a"), truth("held", HELD)]
    )

    found, missing = await harvested(pool, tmp_path, policy=policy())

    assert missing is None
    assert [row["id"] for row in open_rows(tmp_path, found)] == ["right"]
    assert [row["id"] for row in sealed_rows(tmp_path, found)] == ["held"]


async def test_an_import_refuses_a_circle_with_its_ids(told: Tell, pool: Pool) -> None:
    def lines(**links: str | None) -> str:
        return "".join(truth(id, id, parent).model_dump_json() + "\n" for id, parent in links.items())

    Path("karma.jsonl").write_text(lines(a="b", b="a", self="self", good=None, leaf="good"))
    code, shown, error = await told("karma", "import", "karma.jsonl")

    assert (code, shown.strip()) == (1, "2 new, 0 known already, 3 wrong")
    assert error.strip().splitlines() == [
        "karma.jsonl:1 its parents lead in a circle: a → b → a; name what each corrects, or none",
        "karma.jsonl:2 its parents lead in a circle: a → b → a; name what each corrects, or none",
        "karma.jsonl:3 its parents lead in a circle: self → self; name what each corrects, or none",
    ]
    # A circle that is closed only now, over what is stored.
    Path("more.jsonl").write_text(lines(first="last"))
    assert (await told("karma", "import", "more.jsonl"))[0] == 0
    Path("last.jsonl").write_text(lines(last="middle", middle="first"))
    code, shown, error = await told("karma", "import", "last.jsonl")
    assert (code, shown.strip()) == (1, "0 new, 0 known already, 2 wrong")
    assert "last.jsonl:1 its parents lead in a circle: first → last → middle → first" in error
    assert {row["id"] for row in await pool.fetch("SELECT id FROM vectors.karma")} == {"good", "leaf", "first"}
