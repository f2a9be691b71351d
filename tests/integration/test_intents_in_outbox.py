"""An intent in an outbox waits for no harvester, and stops nothing that is said after it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client

from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import KarmaRecalled
from shared.contracts.message import ritual_id
from shared.messaging import outbox
from shared.ritual import ledger
from shared.storage.postgres import Pool
from tests.support.consents import HARVESTER, crypt
from tests.support.running import eventually
from tests.support.services import running

__all__ = ["crypt"]  # the fixture


async def test_an_intent_waits_for_no_harvester_and_stops_nothing_that_is_said_after_it(
    settings: Settings, pool: Pool, crypt: Pool, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_TIMEOUT_S", 0.3)
    await say(crypt, TrainingIntent(persona="scribe", id="first"))
    await say(crypt, KarmaRecalled(karma=("a",), manifests=(), rituals=()))

    await outbox.relay_all(crypt, client)

    assert await unsaid(crypt) == []
    assert (await client.jetstream().get_last_msg("SOUL", "karma.recalled")).data

    async def opened() -> bool:
        return await ledger.get_ritual(pool, ritual_id("first")) is not None

    assert not await opened()
    async with running(HARVESTER, settings):
        await eventually(opened, 10, "the stored intent is taken")


async def test_an_intent_that_nothing_keeps_is_tried_again_and_stops_nothing_else(
    crypt: Pool, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_TIMEOUT_S", 0.3)
    monkeypatch.setattr(outbox, "INTENTS_SEARCHED", 0)  # as if the stream had lost it
    await say(crypt, TrainingIntent(persona="scribe", id="first"))
    await say(crypt, KarmaRecalled(karma=("a",), manifests=(), rituals=()))

    with pytest.raises(nats.errors.TimeoutError):
        await outbox.relay_all(crypt, client)

    assert await unsaid(crypt) == ["training.intent"]


async def test_an_intent_that_the_harvester_refuses_is_not_said_for_ever(
    settings: Settings, crypt: Pool, client: Client
) -> None:
    await say(crypt, TrainingIntent(persona="scribe", id="first", recipe="no-such"))
    async with running(HARVESTER, settings):
        await outbox.relay_all(crypt, client)

    assert await unsaid(crypt) == []


async def test_an_intent_whose_id_another_intent_has_taken_is_stored_all_the_same(
    crypt: Pool, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_TIMEOUT_S", 0.3)
    intent = TrainingIntent(persona="scribe", id=str(uuid4()))
    headers = {"Nats-Msg-Id": str(ritual_id(intent.model_dump_json()))}
    await client.publish(intent.subject, b'{"persona": "coder"}', headers=headers)
    await client.flush()
    await say(crypt, intent)

    await outbox.relay_all(crypt, client)

    assert await unsaid(crypt) == []
    stored = await client.jetstream().get_last_msg("INTENTS", intent.subject)
    assert stored.data == intent.model_dump_json().encode()


async def say(crypt: Pool, message: Any) -> None:
    async with crypt.acquire() as conn:
        await outbox.enqueue(conn, message, ritual_id(message.model_dump_json()), {})


async def unsaid(crypt: Pool) -> list[str]:
    rows = await crypt.fetch("SELECT subject FROM outbox WHERE published_at IS NULL ORDER BY seq")
    return [row["subject"] for row in rows]
