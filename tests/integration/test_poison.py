"""Every kind of poison on every subject that a service consumes: answered or buried at the first delivery, in nobody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from random import Random
from typing import Any

import pytest
import structlog
from nats.aio.client import Client
from nats.js.api import ConsumerInfo
from pydantic import ValidationError

from deploy.cli.commands import dead_letters
from deploy.cli.errors import UserError
from deploy.services import SERVICES, load_app
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import KarmaRevoked
from shared.contracts.message import Message, ritual_id
from shared.messaging.dead_letters import DeadLetter, list_dead_letters
from shared.messaging.streams import STREAMS, Subscription
from shared.ritual import ledger
from shared.storage.postgres import Pool
from tests.support.poison import poison_bodies, poison_headers, valid_body
from tests.support.raw_bus import RawConnection, raw_connection
from tests.support.running import eventually
from tests.support.servers import TESTER
from tests.support.services import handlers_only, running

SEED = 10
APPS = [handlers_only(load_app(service)) for service in SERVICES]
SUBSCRIPTIONS = [subscription for app in APPS for subscription in app.router.subscriptions]
CONTRACTS: dict[str, type[Message]] = {each.message.subject: each.message for each in SUBSCRIPTIONS}
SUBJECT = TrainingIntent.subject
TAKER = Subscription("harvester", TrainingIntent)


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for app in APPS:
            await stack.enter_async_context(running(app, settings))
        yield


@pytest.fixture
async def raw(settings: Settings) -> AsyncIterator[RawConnection]:
    async with raw_connection(settings, settings.bus_key(TESTER)) as publisher:
        yield publisher


async def consumer(client: Client, subscription: Subscription) -> ConsumerInfo:
    info: ConsumerInfo = await client.jetstream().consumer_info(subscription.stream, subscription.durable)
    return info


async def delivered(client: Client) -> dict[str, int]:
    """Consumer -> how many deliveries there were."""
    infos = [await consumer(client, each) for each in SUBSCRIPTIONS]
    return {info.name: info.delivered.consumer_seq for info in infos if info.delivered}


async def stored(client: Client) -> dict[str, int]:
    """Subject -> how many messages are in its stream."""
    infos = [await client.jetstream().stream_info(stream.name or "", subjects_filter=">") for stream in STREAMS]
    return {subject: count for info in infos for subject, count in (info.state.subjects or {}).items()}


async def publish(client: Client, intent: bytes) -> None:
    """Publish an intent without a reply subject; returns when it is in the stream."""
    before = (await stored(client)).get(SUBJECT, 0)

    async def kept() -> bool:
        return (await stored(client)).get(SUBJECT, 0) > before

    await client.publish(SUBJECT, intent)
    await eventually(kept, 5, "the intent is stored")


async def settled(client: Client, within_s: float) -> None:
    """Wait until no consumer has a message that waits or is being handled."""

    async def all_settled() -> bool:
        infos = [await consumer(client, each) for each in SUBSCRIPTIONS]
        return not any(info.num_pending or info.num_ack_pending for info in infos)

    await eventually(all_settled, within_s, "every message is settled")


def is_valid(contract: type[Message], body: bytes) -> bool:
    try:
        contract.model_validate_json(body)
    except ValidationError:
        return False
    return True


def publish_all(raw: RawConnection, random: Random) -> dict[str, list[bytes]]:
    """Publish all poison on all subjects in a random order; the bodies by subject."""
    messages: list[tuple[str, bytes, bytes | None]] = []
    for subject, contract in CONTRACTS.items():
        valid = valid_body(contract)
        messages += [(subject, body, None) for body in poison_bodies(valid, random).values()]
        for body in (valid, b"no such message"):
            messages += [(subject, body, headers) for headers in poison_headers(random).values()]
    random.shuffle(messages)
    bodies: dict[str, list[bytes]] = {subject: [] for subject in CONTRACTS}
    for subject, body, headers in messages:
        raw.publish(subject, body, headers)
        bodies[subject].append(body)
    return bodies


@pytest.mark.usefixtures("services")
async def test_every_poison_on_every_subject_is_settled_at_its_first_delivery(
    client: Client, owner: Pool, raw: RawConnection
) -> None:
    random = Random(SEED)
    assert len(poison_bodies(b'{"a": 1}', random)) >= 40 and len(poison_headers(random)) >= 40
    before = await delivered(client)
    bodies = publish_all(raw, random)

    async def all_stored() -> bool:
        kept = await stored(client)
        return all(kept.get(subject, 0) >= len(sent) for subject, sent in bodies.items())

    reply = await client.request(SUBJECT, b'{"persona": "scribe", "id": "healthy"}', timeout=30)
    await raw.flush()
    await eventually(all_stored, 10, "the streams hold all of it")
    await settled(client, 50)
    after, kept = await delivered(client), await stored(client)

    assert json.loads(reply.data)["ritual"] == str(ritual_id("healthy"))
    for each in SUBSCRIPTIONS:
        assert after[each.durable] - before[each.durable] == kept[each.message.subject], each.durable
    letters = await list_all(owner)
    for subject, contract in CONTRACTS.items():
        invalid = [body for body in bodies[subject] if not is_valid(contract, body)]
        consumers = sum(each.message is contract for each in SUBSCRIPTIONS)
        kept_bodies = [letter.body for letter in letters if letter.subject == subject]
        assert len(kept_bodies) >= len(invalid) * consumers and set(kept_bodies) >= set(invalid), subject


@pytest.mark.usefixtures("services")
async def test_a_dead_letter_keeps_every_byte_and_is_replayed_with_the_headers_that_a_client_can_send(
    owner: Pool, raw: RawConnection, settings: Settings
) -> None:
    raw.publish(SUBJECT, b"\xff\0", b"NATS/1.0\r\nX-From: a\0b\r\nX(From): \xff\r\n\r\n")
    await raw.flush()
    [letter] = await buried(owner, 1)
    await dead_letters.publish_again(settings, letter.name)
    again = (await buried(owner, 2))[1]

    assert (letter.body, letter.headers["X-From"]) == (b"\xff\0", "a\0b")
    assert (again.body, again.headers["X-From"]) == (letter.body, "a\0b")
    assert "X(From)" not in again.headers


@pytest.mark.usefixtures("services")
async def test_the_letter_of_a_fact_is_replayed_with_the_key_of_a_service_that_publishes_it(
    owner: Pool, client: Client, settings: Settings
) -> None:
    await client.jetstream().publish("gpu.refused", b"no fact")
    [letter] = await buried(owner, 1)
    await dead_letters.publish_again(settings, letter.name)

    assert [each.subject for each in await buried(owner, 2)] == ["gpu.refused", "gpu.refused"]


@pytest.mark.usefixtures("services")
async def test_a_letter_that_cannot_be_stored_whole_is_reduced(
    client: Client, owner: Pool, admin: Pool, settings: Settings, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with refused(admin, "untranslatable_character", "NEW.body IS NOT NULL"):
        await publish(client, b"no intent")
        await settled(client, 10)

    [letter] = await list_all(owner)
    assert (letter.body, letter.size, letter.digest) == (None, 9, sha256(b"no intent").digest())
    assert "Invalid JSON" in letter.error
    with pytest.raises(UserError, match="kept without its body: it cannot be replayed"):
        await dead_letters.publish_again(settings, letter.name)
    monkeypatch.setattr(dead_letters, "load_settings", lambda: settings)
    await asyncio.to_thread(dead_letters.show, letter.name)
    assert "the body was not kept: 9 bytes, sha256" in capsys.readouterr().out


@pytest.mark.usefixtures("services")
async def test_a_message_that_cannot_be_buried_at_all_is_terminated(client: Client, owner: Pool, admin: Pool) -> None:
    before = (await delivered(client))[TAKER.durable]
    async with refused(admin, "raise_exception"):
        await publish(client, b"no intent")
        await settled(client, 10)

    assert await list_all(owner) == []
    assert (await delivered(client))[TAKER.durable] == before + 1


@pytest.mark.usefixtures("services")
async def test_a_letter_waits_while_the_disk_is_full(client: Client, owner: Pool, admin: Pool) -> None:
    async with refused(admin, "disk_full"):
        before = (await delivered(client))[TAKER.durable]
        await publish(client, b"no intent")
        await asyncio.sleep(4)
        assert 2 <= (await delivered(client))[TAKER.durable] - before <= 3
    await settled(client, 10)

    assert [letter.body for letter in await list_all(owner)] == [b"no intent"]


@pytest.mark.usefixtures("services")
async def test_an_unknown_error_is_retried_after_a_growing_delay_while_others_go_on(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ritual = ledger.open_ritual

    async def failing(conn: Any, intent: TrainingIntent, *others: Any) -> Any:
        if intent.why == "fail":
            raise RuntimeError("nobody expected this")
        return await open_ritual(conn, intent, *others)

    monkeypatch.setattr(ledger, "open_ritual", failing)
    before = (await delivered(client))[TAKER.durable]
    with structlog.testing.capture_logs():  # to print 60 tracebacks takes longer than the delays
        for _ in range(20):
            await client.publish(SUBJECT, b'{"persona": "scribe", "why": "fail"}')
        answer = await client.request(SUBJECT, b'{"persona": "scribe"}', timeout=5)
        await asyncio.sleep(4)

    assert "ritual" in json.loads(answer.data)
    assert 20 * 2 < (await delivered(client))[TAKER.durable] - before <= 20 * 3 + 1  # after 1 s and 2 s


@pytest.mark.parametrize("text", ["a\\u0000", "\\ud83d", "\0"])
@pytest.mark.usefixtures("services")
async def test_a_withdrawal_of_consent_with_an_unstorable_text_is_buried_at_once(
    client: Client, owner: Pool, text: str
) -> None:
    before = await delivered(client)
    await client.jetstream().publish(KarmaRevoked.subject, f'{{"karma": ["{text}"], "by": "me"}}'.encode())
    await settled(client, 5)

    assert len(await list_all(owner)) == 1
    assert sum((await delivered(client)).values()) == sum(before.values()) + 1


async def buried(owner: Pool, count: int) -> list[DeadLetter]:
    """So many letters, once they are there."""

    async def all_there() -> bool:
        return len(await list_all(owner)) == count

    await eventually(all_there, 10, f"{count} letters")
    return await list_all(owner)


async def list_all(owner: Pool) -> list[DeadLetter]:
    return [letter for service in SERVICES for letter in await list_dead_letters(owner, service)]


@asynccontextmanager
async def refused(admin: Pool, condition: str, when: str = "true") -> AsyncIterator[None]:
    """While PostgreSQL refuses the harvester's dead letters for which `when` holds."""
    await admin.execute(
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE {condition}; END$$;"
        f"CREATE TRIGGER refusal BEFORE INSERT ON dead_letter FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()"
    )
    try:
        yield
    finally:
        await admin.execute("DROP TRIGGER refusal ON dead_letter; DROP FUNCTION refuse()")
