"""Consent on the real database and bus: what is revoked is revoked for good, and everything built from it is found."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.harvester.handlers import karma_revoked
from services.harvester.ingest.consent import list_recalls, list_revoked
from services.harvester.ingest.karma import store_records
from shared.config.settings import Settings
from shared.contracts.karma import KarmaRevoked
from shared.runtime.context import ServiceContext
from shared.storage.postgres import Pool
from tests.support.consents import HARVESTER, bus, crypt, heard, history, of, status, truth
from tests.support.running import eventually
from tests.support.services import running

__all__ = ["bus", "crypt", "heard", "history"]  # the fixtures


async def test_what_is_revoked_on_the_bus_is_revoked_in_its_row_and_its_use_is_said(
    settings: Settings, pool: Pool, history: dict[str, UUID], heard: list[Any], bus: Any
) -> None:
    async with running(HARVESTER, settings):
        await bus.publish("karma.revoked", b'{"karma": ["a", "never-seen"], "by": "owner", "why": "mine"}')
        await eventually(lambda: _said(heard, "karma.recalled", 2), 10, "both recalls are said")

    assert await status(pool, "a") == "revoked"
    kept = await pool.fetch("SELECT karma, revoked_by, why FROM revocation ORDER BY karma")
    assert [tuple(row) for row in kept] == [("a", "owner", "mine"), ("never-seen", "owner", "mine")]
    one, other = of(heard, "karma.recalled")
    assert (one["karma"], one["manifests"]) == (["a"], ["m1", "m2"])
    assert set(one["rituals"]) == {str(ritual) for ritual in history.values()}
    assert (other["karma"], other["manifests"], other["rituals"]) == (["never-seen"], [], [])


async def _said(heard: list[Any], subject: str, count: int) -> bool:
    return len(of(heard, subject)) >= count


async def test_the_same_delivery_twice_says_it_once_and_the_same_words_again_say_it_again(
    settings: Settings, pool: Pool, history: dict[str, UUID]
) -> None:
    context = ServiceContext("harvester", settings, pool, None)  # type: ignore[arg-type]
    said = KarmaRevoked(karma=("a", "a", "b"), by="owner")

    for sequence in (1, 1, 2):
        await karma_revoked(said, delivery(sequence), context)

    bodies = [
        json.loads(row["body"])
        for row in await pool.fetch("SELECT body FROM outbox WHERE subject = 'karma.recalled' ORDER BY seq")
    ]
    assert [body["karma"] for body in bodies] == [["a"], ["b"], ["a"], ["b"]]
    assert await pool.fetchval("SELECT count(*) FROM revocation") == 2


def delivery(sequence: int) -> Any:
    class Metadata:
        stream = "SOUL"

        class timestamp:
            isoformat = staticmethod(lambda: "2026-11-21")

    class Raw:
        metadata = Metadata()

    Raw.metadata.sequence = type("Sequence", (), {"stream": sequence})  # type: ignore[attr-defined]
    return type("Message", (), {"raw_message": Raw})


async def test_sql_cannot_set_a_revoked_record_back_and_its_id_stays_revoked_when_the_row_comes_back(
    settings: Settings, pool: Pool, admin: Pool, history: dict[str, UUID]
) -> None:
    context = ServiceContext("harvester", settings, pool, None)  # type: ignore[arg-type]
    await karma_revoked(KarmaRevoked(karma=("a",), by="owner"), delivery(1), context)

    with pytest.raises(asyncpg.RaiseError, match="stays out for good"):
        await pool.execute("UPDATE vectors.karma SET status = 'white_truth' WHERE id = 'a'")
    await admin.execute("DELETE FROM vectors.karma WHERE id = 'a'")
    async with pool.acquire() as conn, conn.transaction():
        assert await store_records(conn, [truth("a"), truth("d")]) == 1, "only the one that was never revoked"

    assert await pool.fetchval("SELECT true FROM revocation WHERE karma = 'a'")


async def test_a_recall_blames_no_manifest_for_a_record_that_it_does_not_hold(
    pool: Pool, history: dict[str, UUID]
) -> None:
    async with pool.acquire() as conn:
        apart = await list_recalls(conn, ["b", "c", "a", "b"])

    assert {said.karma: said.manifests for said in apart} == {("b",): ("m2",), ("c",): (), ("a",): ("m1", "m2")}
    assert next(said for said in apart if said.karma == ("b",)).rituals == (history["r2"],)


async def test_many_ids_are_said_in_messages_that_the_bus_takes(pool: Pool) -> None:
    async with pool.acquire() as conn:
        said = await list_recalls(conn, [f"{number:0200}" for number in range(2500)])

    assert [len(one.karma) for one in said] == [1000, 1000, 500]
    assert max(len(one.model_dump_json()) for one in said) < 2**20 / 4


async def test_a_manifest_that_is_stated_beside_a_revocation_is_seen_by_one_of_the_two(
    settings: Settings, pool: Pool, history: dict[str, UUID]
) -> None:
    context = ServiceContext("harvester", settings, pool, None)  # type: ignore[arg-type]
    async with pool.acquire() as conn, conn.transaction():
        assert await list_revoked(conn, "m2") == []
        beside = asyncio.create_task(
            karma_revoked(KarmaRevoked(karma=("b", "zz", "x"), by="owner"), delivery(1), context)
        )
        await asyncio.sleep(0.3)
        assert not beside.done(), "the revocation waits for the statement"
    await beside

    async with pool.acquire() as conn, conn.transaction():
        assert await list_revoked(conn, "m1") == ["x"]
        assert await list_revoked(conn, "m2") == ["b", "x"]
