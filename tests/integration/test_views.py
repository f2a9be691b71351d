"""What readers see of the registry and of dead letters, on real rows."""

from __future__ import annotations

from uuid import UUID, uuid4

from services.registry import views
from shared.contracts.forge import AdapterForged
from shared.contracts.ritual import State
from shared.messaging.dead_letters import list_dead_letters, mark_replayed, record_dead_letter
from shared.storage.postgres import Pool
from tests.support.consents import crypt, history

__all__ = ["crypt", "history"]  # the fixtures


async def test_the_versions_of_a_persona_are_listed_with_the_one_that_serves_and_what_their_rituals_came_to(
    crypt: Pool, history: dict[str, UUID]
) -> None:
    versions = await views.list_versions(crypt)
    outcomes = await views.list_outcomes(crypt, [*history.values(), uuid4()])

    assert [(row.name, row.ritual, row.serves) for row in versions] == [
        ("scribe@r2", history["r2"], True),
        ("scribe@r1", history["r1"], False),
    ]
    assert await views.list_aliases(crypt) == {"scribe": "scribe@r2"}
    assert {row.ritual: (row.state, row.version, row.serves) for row in outcomes.values()} == {
        history["r1"]: (State.AWAKENED, "scribe@r1", False),
        history["r2"]: (State.AWAKENED, "scribe@r2", True),
    }


async def test_a_dead_letter_is_kept_once_by_its_service_until_it_is_marked_as_replayed(
    admin: Pool, owner: Pool
) -> None:
    async with admin.acquire() as conn:
        await conn.execute("SET search_path TO forge, public")
        for _ in range(2):
            await record_dead_letter(conn, AdapterForged.subject, b"{}", {"Nats-Msg-Id": "1"}, "no ritual", "SOUL/7")

    [letter] = await list_dead_letters(owner, "forge")
    await mark_replayed(owner, letter)
    [replayed] = await list_dead_letters(owner, "forge")

    assert (letter.name, letter.subject, letter.body) == (f"forge/{letter.id}", AdapterForged.subject, b"{}")
    assert (letter.headers, letter.error, letter.replayed_at) == ({"Nats-Msg-Id": "1"}, "no ritual", None)
    assert replayed.replayed_at and replayed.replayed_at >= letter.died_at
    assert await list_dead_letters(owner, "verifier") == []
