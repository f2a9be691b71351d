"""`soulforge karma explain`: what a harvest would do with one record, by the harvest's own decision, and what past ones did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.harvester.split import Split
from shared.config.settings import Settings
from shared.contracts.karma import KarmaRecord, Status
from shared.storage.postgres import Pool
from tests.support.configurations import configured
from tests.support.consents import Tell, harvested, told
from tests.support.harvests import record, remember, session_on

__all__ = ["told"]  # the fixture

TRAIN, HELD = session_on(Split.TRAIN), session_on(Split.HOLDOUT)
WORDS = "The gate at the far end of the long garden is oiled on the first Monday of each month by whoever is on duty."
SPECULATIVE: dict[str, Any] = {"status": Status.SPECULATIVE, "consecrated_by": None}


def truth(id: str, session: str = TRAIN, **values: Any) -> KarmaRecord:
    return record(id, session, f"What is {id}?", f"{id} is number {len(id) * 7}.", **values)


async def explained(told: Tell, id: str) -> dict[str, Any]:
    code, shown, error = await told("karma", "explain", id, "--json")
    assert code == 0, error
    found: dict[str, Any] = json.loads(shown)
    return found


async def test_every_record_has_its_side_or_its_reason_with_what_to_do(told: Tell, pool: Pool) -> None:
    await remember(
        pool,
        [
            truth("used", why="it worked", outcome={"evidence": "seen", "checks": [{"kind": "contains", "text": "used"}]}),
            truth("held", HELD),
            truth("speculative", **SPECULATIVE),
            truth("wrong", **SPECULATIVE),
            truth("right", parent="wrong"),
            truth("other purpose", purposes=["search"]),
            truth("licensed", licence="proprietary"),
            record("z copy", TRAIN, "What is used?", "used is number 28."),
            record("long", TRAIN, "When?", WORDS),
            record("longer", TRAIN, "When?", f"{WORDS} So."),
            record("yes", TRAIN, "May I open the gate?", "Yes, open it."),
            record("no", TRAIN, "May I open the gate?", "No, do not open it."),
            truth("a", parent="b"),
            truth("b", parent="a"),
            truth("withdrawn", status=Status.REVOKED),
            record("secret", TRAIN, "Key?", "AKIA" + "Q3EGRIC7PXJ5RBMW"),
        ],
    )  # fmt: skip

    expected = {
        "used": ("train", None, None),
        "held": ("holdout", None, None),
        "speculative": ("train", "unconsecrated", None),
        "wrong": ("train", "superseded", None),
        "right": ("train", None, None),
        "other purpose": ("train", "no_consent", None),
        "licensed": ("train", "licence", None),
        "long": ("train", None, None),
        "longer": ("train", "near_duplicate", "long"),
        "a": ("train", "circle", None),
        "withdrawn": ("train", "revoked", None),
        "secret": ("train", "secret", None),
    }
    found = {id: await explained(told, id) for id in expected}

    assert {
        id: (one["now"]["side"], one["now"]["reason"], one["now"]["repeats"]) for id, one in found.items()
    } == expected
    assert all((one["now"]["remedy"] is None) == (one["now"]["reason"] is None) for one in found.values())
    copied = await explained(told, "z copy")
    assert (copied["now"]["reason"], copied["now"]["repeats"]) == ("duplicate", "used")
    assert (found["used"]["has_why"], found["used"]["has_evidence"], found["used"]["checks"]) == (True, True, 1)
    assert (found["held"]["has_why"], found["held"]["has_evidence"], found["held"]["checks"]) == (False, False, 0)
    assert found["a"]["circle"] == "a → b → a" and found["right"]["circle"] is None
    assert found["right"]["parents"] == [{"karma": "wrong", "status": "speculative"}]
    assert found["wrong"]["corrections"] == [{"karma": "right", "status": "white_truth"}]
    assert (await explained(told, "yes"))["contradicts"] == ["no"] and found["used"]["contradicts"] == []
    assert found["wrong"]["now"]["rejected_by"] == "right"
    assert found["secret"]["now"]["found"] == {"aws_access_key_id": 1}
    assert "Q3EGRIC7PXJ5RBMW" not in str(found)
    assert await pool.fetchval("SELECT count(*) FROM exclusion") == 0, "nothing is recorded"


async def test_past_rituals_and_golden_paths_are_read_from_what_was_recorded(told: Tell, pool: Pool) -> None:
    await remember(
        pool, [truth(id, trace_id=trace) for id, trace in (("a", "t1"), ("b", "t2"), ("c", "t3"), ("d", None))]
    )
    await pool.execute(
        "INSERT INTO golden_path (karma, trace_id, messages, steps, pruned, problem) VALUES "
        "('a', 't1', '[]', 5, 2, NULL), ('b', 't2', NULL, 0, 0, 'a call lacks its result'), ('c', 'another', '[]', 1, 0, NULL)"
    )
    for number, reason in enumerate(("unconsecrated", "duplicate")):
        ritual = await harvested(pool, f"r{number}", f"m{number}")
        await pool.execute("INSERT INTO manifest VALUES ($1, 'scribe', 'h', 2, 0, 0)", f"m{number}")
        await pool.execute("INSERT INTO manifest_record VALUES ($1, 'a', 'dev'), ($1, 'b', 'rejected')", f"m{number}")
        await pool.execute("INSERT INTO exclusion VALUES ($1, 'b', $2, 'a')", ritual, reason)
    a, b, c, d = [await explained(told, id) for id in "abcd"]

    assert [(use["side"], use["reason"]) for use in a["uses"]] == [("dev", None), ("dev", None)]
    assert [(use["side"], use["reason"], use["repeats"]) for use in b["uses"]] == [
        ("rejected", "duplicate", "a"),
        ("rejected", "unconsecrated", "a"),
    ]
    assert a["uses"][0]["ritual"] == str(ritual) and (c["uses"], d["uses"]) == ([], [])
    assert a["golden_path"] == {"read": True, "steps": 5, "pruned": 2, "problem": None}
    assert b["golden_path"]["problem"] == "a call lacks its result"
    assert c["golden_path"]["read"] is False and d["golden_path"] is None


async def test_names_are_shown_with_placeholders_and_nothing_of_what_cannot_be_scanned(told: Tell, pool: Pool) -> None:
    address = "ida@garden.net"
    await remember(pool, [truth("one", f"mail {address}", source=f"from {address}", consecrated_by=address)])
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, status, consecrated_by, session) "
        "VALUES ('broken', 'scribe', '[]', 'white_truth', $1, $1)",
        address,
    )

    one, broken = await explained(told, "one"), await explained(told, "broken")
    code, shown, _ = await told("karma", "explain", "broken")

    assert (one["session"], one["source"], one["consecrated_by"]) == ("mail [e-mail]", "from [e-mail]", "[e-mail]")
    assert (broken["now"]["reason"], broken["session"], broken["consecrated_by"]) == ("malformed", None, None)
    assert code == 0 and "left out: malformed" in shown and "not shown" in shown
    assert address not in str(one) + str(broken) + shown


async def test_the_policy_of_the_house_decides(
    told: Tell, pool: Pool, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(pool, [truth("one")])
    configured(settings, tmp_path, harvest={"licences": ["MIT"]})
    monkeypatch.setenv("SOULFORGE_CONFIG", str(tmp_path / "soulforge.toml"))

    code, shown, _ = await told("karma", "explain", "one")

    assert code == 0 and "left out: licence" in shown
    assert "`harvest.licences` in soulforge.toml accepts MIT: add theirs" in shown


async def test_what_is_not_remembered_is_an_error_with_the_reason(told: Tell, pool: Pool) -> None:
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('gone', 'ida')")

    code, shown, error = await told("karma", "explain", "nobody")
    assert (code, shown) == (1, "") and "nobody is not remembered: it was never imported here" in error
    code, shown, error = await told("karma", "explain", "gone")
    assert (code, shown) == (1, "") and "gone is not remembered; ida revoked it" in error
