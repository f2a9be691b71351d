"""The looks at a sealed holdout: each ritual is one, whatever becomes of it, and a session that carried enough is worn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from services.verifier import store
from services.verifier.views import Looks, get_looks
from shared.config.settings import Settings
from shared.contracts.verify import AdapterBanished
from shared.storage.postgres import Pool, open_pool
from tests.support.consents import crypt, history
from tests.support.stages import harvested

__all__ = ["crypt", "history"]  # the fixtures

SESSIONS = ("a", "b", "c")
MOST = 3


@pytest.fixture
async def verifier(settings: Settings, pool: Pool) -> AsyncIterator[Pool]:
    opened = await open_pool(settings.database_url("verifier"), "verifier")
    yield opened
    await opened.close()


async def rituals(pool: Pool, count: int) -> list[UUID]:
    return [await harvested(pool, intent=f"night {number}") for number in range(count)]


async def look(
    pool: Pool, ritual: UUID, *sessions: str, persona: str = "scribe"
) -> tuple[set[tuple[bool, ...]], set[str]]:
    """The histories of the sessions that are left, and the worn ones."""
    found = await store.record_look(pool, ritual, persona, sessions or SESSIONS, MOST)
    return set(found.histories), set(found.worn)


async def test_each_ritual_is_one_look_however_often_it_is_concluded(verifier: Pool, pool: Pool) -> None:
    first, second = await rituals(pool, 2)

    assert await look(verifier, first) == ({()}, set())
    assert await look(verifier, first) == ({()}, set())
    await store.record_outcome(verifier, first, True)
    assert await look(verifier, second) == ({(True,)}, set())
    assert await look(verifier, first) == ({()}, set()), "a later look is none of its past"


async def test_a_look_without_a_verdict_counts_as_one_that_showed_nothing(verifier: Pool, pool: Pool) -> None:
    killed, second = await rituals(pool, 2)
    await look(verifier, killed)

    assert await look(verifier, second) == ({(False,)}, set())


async def test_looks_are_counted_by_session_and_persona(verifier: Pool, pool: Pool) -> None:
    first, second, third = await rituals(pool, 3)
    await look(verifier, first, "a", "b")
    await store.record_outcome(verifier, first, False)

    assert await look(verifier, second, "b", "c") == ({(False,), ()}, set())
    assert await look(verifier, third, persona="coder") == ({()}, set())


async def test_a_session_that_carried_enough_verdicts_is_worn_and_new_ones_take_its_place(
    verifier: Pool, pool: Pool
) -> None:
    *before, now, later = await rituals(pool, MOST + 2)
    for ritual in before:
        await look(verifier, ritual)

    assert await look(verifier, now, *SESSIONS, "new") == ({()}, set(SESSIONS))
    assert await look(verifier, later, *SESSIONS, "new") == ({(False,)}, set(SESSIONS))


async def test_readers_see_how_often_a_holdout_was_looked_at(verifier: Pool, pool: Pool, owner: Pool) -> None:
    assert await get_looks(owner, "scribe") == Looks(0, 0, 0, 0)
    first, second = await rituals(pool, 2)
    await look(verifier, first)
    await store.record_outcome(verifier, first, True)
    await look(verifier, second, "c", "d")

    assert await get_looks(owner, "scribe") == Looks(verdicts=2, learned=1, sessions=4, most=2)


async def test_of_two_looks_at_once_one_is_the_second(verifier: Pool, pool: Pool) -> None:
    found = await asyncio.gather(*(look(verifier, ritual) for ritual in await rituals(pool, 4)))

    assert sorted(len(history) for histories, _ in found for history in histories) == [0, 1, 2]
    assert [worn for _, worn in found if worn] == [set(SESSIONS)]


async def test_the_verifier_reads_the_champion_and_why_it_does_not_serve(
    verifier: Pool, history: dict[str, UUID], admin: Pool
) -> None:
    assert await store.get_champion(verifier, "coder") is None
    found = await store.get_champion(verifier, "scribe")
    assert found == store.ChampionVersion("scribe@r2", "sha256:r2", "base", None)

    await admin.execute(
        "INSERT INTO public.ritual_fact (event_id, ritual, subject, step, owner, attempt, state_before, state_after, body, started_at) "
        "VALUES (gen_random_uuid(), $1, $2, 'verify', 'verifier', 9, 'forged', 'banished', $3, now())",
        history["r2"],
        AdapterBanished.subject,
        {"adapter": "sha256:r2"},
    )
    found = await store.get_champion(verifier, "scribe")
    assert found and found.fault == "it was withdrawn: an evaluation banished its adapter"
