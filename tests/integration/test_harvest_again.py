"""A harvest that decides only about what changed equals one that decides about everything, byte for byte."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.harvester.policy import HarvestPolicy
from services.harvester.reading.way import Way
from shared.storage.postgres import Connection, Pool
from tests.support.decisions import cut_short, same
from tests.support.harvests import record, remember

EMPTY = (
    "DELETE FROM vectors.karma; TRUNCATE sealed, revocation, manifest, manifest_segment, ritual_segment, segment, "
    "reading_mark, near_duplicate, kept_decision"
)
WORDS = random.Random(7)
PASSAGES = [" ".join(WORDS.choices([f"w{n}" for n in range(400)], k=60)) for _ in range(6)]
ENDS = ("done", "later then", "never")
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"likeness": {"jaccard": 0.6}, "common_passage": 3, "split": {"holdout": 0.3}},
    {"likeness": {"by_words": False}, "common_passage": 2, "lengths": {"row": 230}},
    {"shares": {"session": 0.3, "session_floor": 6}, "split": {"holdout": 0.4, "dev": 0.2}},
    {"shares": {"source": 0.7, "sources": {"b": 0.4}}},
)


def policy(number: int) -> HarvestPolicy:
    values: dict[str, Any] = dict(POLICIES[number])
    values["likeness"] = {"by_meaning": False} | values.get("likeness", {})
    return HarvestPolicy.model_validate(values)


#: Some texts come again and again, so that there are copies on all sides; others only share a passage or nearly repeat.
USUAL = [("Tell me.", f"{passage} {PASSAGES[0][:90]}") for passage in PASSAGES[:3]]


def said(draw: st.DrawFn) -> tuple[str, str]:
    if draw(st.booleans()):
        return draw(st.sampled_from(USUAL))
    passages = draw(st.lists(st.sampled_from(PASSAGES), min_size=1, max_size=2))
    return draw(st.sampled_from(["Tell me.", passages[0]])), f"{' '.join(passages)} {draw(st.sampled_from(ENDS))}"


WHAT = ("say", "say", "move", "correct", "vouch", "doubt", "revoke", "revoke", "note", "delete", "date")
READER = cache(Way.reader)


@st.composite
def steps(draw: st.DrawFn) -> list[list[tuple[str, Any]]]:
    """What happens between harvests: records come, and old ones are changed, vouched for, revoked or deleted."""
    ids: list[str] = []
    all_steps = []
    for number in range(draw(st.integers(3, 5))):
        step: list[tuple[str, Any]] = []
        for _ in range(draw(st.integers(4, 30) if number == 0 else st.integers(0, 5))):
            question, answer = said(draw)
            id = f"r{len(ids):03d}"
            values: dict[str, Any] = {
                "parent": draw(st.sampled_from([None] * 14 + ["r900", *ids[-3:]])),
                "status": draw(st.sampled_from(["white_truth"] * 6 + ["speculative", "revoked"])),
                "feedback": draw(st.sampled_from([None, None, None, "up", "down"])),
                "source": draw(st.sampled_from(["a", "a", "b", "c"])),
                "licence": draw(st.sampled_from(["owner"] * 6 + ["unknown"])),
                "created_at": f"2026-05-{draw(st.integers(1, 28)):02d}T00:00:00Z",
            }
            secret = draw(
                st.sampled_from([""] * 7 + [" My key is ghp" + "_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8."])
            )
            step.append(("add", record(id, f"s{draw(st.integers(0, 15))}", question, answer + secret, **values)))
            ids.append(id)
        for _ in range(draw(st.integers(0, 3)) if number else 0):
            what = draw(st.sampled_from(WHAT))
            step.append((what, (draw(st.sampled_from(ids)), draw(st.sampled_from(ids)), draw(st.integers(0, 9)))))
        all_steps.append(step)
    return all_steps


SQL = {
    "say": "UPDATE vectors.karma k SET messages = o.messages FROM vectors.karma o WHERE k.id = $1 AND o.id = $2 AND $3 >= 0",
    "move": "UPDATE vectors.karma SET session = 's' || $3::int WHERE id = $1 AND $2 <> ''",
    "correct": "UPDATE vectors.karma SET parent = nullif($2, id) WHERE id = $1 AND $3::int >= 0",
    "vouch": "UPDATE vectors.karma SET status = 'white_truth', consecrated_by = 'ida' "
    "WHERE id = $1 AND status = 'speculative' AND $2 <> '' AND $3::int >= 0",
    "doubt": "UPDATE vectors.karma SET status = 'speculative' WHERE id = $1 AND status = 'white_truth' AND $2 <> '' AND $3::int >= 0",
    "revoke": "UPDATE vectors.karma SET status = 'revoked' WHERE id = $1 AND $2 <> '' AND $3::int >= 0",
    "note": "INSERT INTO revocation (karma, revoked_by) SELECT $1, 'ida' WHERE $2 <> '' AND $3::int >= 0 ON CONFLICT DO NOTHING",
    "delete": "DELETE FROM vectors.karma WHERE id = $1 AND $2 <> '' AND $3::int >= 0",
    "date": "UPDATE vectors.karma SET created_at = '2026-05-11T00:00:00Z'::timestamptz + make_interval(days => $3::int) "
    "WHERE id = $1 AND $2 <> ''",
}


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps(), st.integers(0, len(POLICIES) - 1))
async def test_what_is_decided_from_a_kept_decision_is_what_is_decided_anew(
    pool: Pool, happened: list[list[tuple[str, Any]]], number: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_short(patch, 12)
        patch.setattr(Way, "reader", READER)  # to make one takes longer than all else
        await pool.execute(EMPTY)
        with tempfile.TemporaryDirectory() as folder:
            for step in happened:
                for what, values in step:
                    if what == "add":
                        await remember(pool, [values])
                    else:
                        async with pool.acquire() as conn, conn.transaction():
                            await _happens(conn, what, values)
                found = await same(pool, Path(folder), policy=policy(number))
                AGAIN.append(found.decision is not None and not found.decision.anew)


AGAIN: list[bool] = []


async def _happens(conn: Connection, what: str, values: tuple[Any, ...]) -> None:
    revoked = await conn.fetchval("SELECT status FROM vectors.karma WHERE id = $1", values[0]) == "revoked"
    if revoked and what in ("vouch", "doubt"):
        return
    await conn.execute(SQL[what], *values)


def test_most_of_these_were_decided_from_a_kept_decision() -> None:
    assert AGAIN.count(True) > len(AGAIN) / 3, (AGAIN.count(True), len(AGAIN))
