"""A message in an outbox that can never be published waits by itself; a lost connection is no message's fault."""

from __future__ import annotations

from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from prometheus_client import REGISTRY

from shared.contracts.harvest import KarmaRefused
from shared.contracts.karma import KarmaRecalled, KarmaRevoked
from shared.messaging import outbox
from shared.storage.postgres import Pool

MEBIBYTE = 1 << 20
POISON: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "body too large": (KarmaRecalled.subject, b"a" * (MEBIBYTE + 1), {}),
    "too large with its headers": (KarmaRecalled.subject, b"a" * (MEBIBYTE - 20), {}),
    "no subject": ("", b"{}", {}),
    "subject with a space": ("karma recalled", b"{}", {}),
    "no stream": ("nowhere.at.all", b"{}", {}),
    "header without a token": (KarmaRecalled.subject, b"{}", {"X (From)": "a"}),
    "refused by the stream": (KarmaRecalled.subject, b"{}", {"Nats-Expected-Stream": "ANOTHER"}),
    "refused rollup": (KarmaRecalled.subject, b"{}", {"Nats-Rollup": "all"}),
}


async def put(pool: Pool, subject: str, body: bytes, headers: dict[str, str]) -> None:
    await pool.execute(
        "INSERT INTO outbox (event_id, subject, body, headers) VALUES ($1, $2, $3, $4)", uuid4(), subject, body, headers
    )


@pytest.mark.parametrize("kind", POISON)
async def test_a_message_that_can_never_be_published_holds_up_no_other(
    kind: str, pool: Pool, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_TIMEOUT_S", 0.5)
    subject, body, headers = POISON[kind]
    await put(pool, subject, body, headers)
    await put(pool, KarmaRecalled.subject, b"healthy", {})

    for _ in range(2):
        await relay_all(pool, client)

    assert client.is_connected
    assert (await client.jetstream().get_last_msg("SOUL", KarmaRecalled.subject)).data == b"healthy"
    [row] = await pool.fetch(
        "SELECT failures, error, retry_at - clock_timestamp() <= interval '1 s' AS soon FROM outbox WHERE published_at IS NULL"
    )
    assert (row["failures"], row["soon"]) == (1, True) and row["error"]
    oldest = await outbox.get_oldest_unpublished(pool)
    assert oldest and (oldest.subject, oldest.failures, oldest.error) == (subject, 1, row["error"]), "readiness tells"


async def test_a_fact_whose_id_another_message_has_taken_is_published_all_the_same(pool: Pool, client: Client) -> None:
    fact = KarmaRefused(ritual=uuid4(), persona="scribe", reason="too little karma")
    before = taken(fact)
    for body in (b"{}", fact.model_dump_json().encode()):  # also one that resembles it
        await client.jetstream().publish(KarmaRevoked.subject, body, headers={"Nats-Msg-Id": str(fact.event_id)})
    async with pool.acquire() as conn:
        await outbox.enqueue(conn, fact, fact.event_id, {})

    await outbox.relay_all(pool, client)

    assert (await client.jetstream().get_last_msg("SOUL", fact.subject)).data == fact.model_dump_json().encode()
    assert taken(fact) == before + 1
    assert await pool.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL") == 0


async def test_a_fact_that_is_stored_already_is_not_stored_again(pool: Pool, client: Client) -> None:
    fact = KarmaRefused(ritual=uuid4(), persona="scribe", reason="too little karma")
    async with pool.acquire() as conn:
        await outbox.enqueue(conn, fact, fact.event_id, {})
    for _ in range(2):  # as after a crash between the publication and its mark
        await pool.execute("UPDATE outbox SET published_at = NULL")
        await outbox.relay_all(pool, client)

    info = await client.jetstream().stream_info("SOUL", subjects_filter=fact.subject)
    assert info.state.subjects == {fact.subject: 1}


def taken(fact: KarmaRefused) -> float:
    return REGISTRY.get_sample_value("soulforge_message_ids_taken_total", {"subject": fact.subject}) or 0


async def relay_all(pool: Pool, client: Client) -> None:
    """As the service does: a batch that a timeout ended goes on at the next pass."""
    try:
        await outbox.relay_all(pool, client)
    except nats.errors.TimeoutError:
        await outbox.relay_all(pool, client)


async def test_the_delay_grows_to_a_minute(pool: Pool, client: Client) -> None:
    await put(pool, "nowhere.at.all", b"{}", {})
    delays = []
    for _ in range(8):
        await outbox.relay_all(pool, client)
        delays.append(
            await pool.fetchval("SELECT extract(epoch FROM retry_at - clock_timestamp())::float8 FROM outbox")
        )
        await pool.execute("UPDATE outbox SET retry_at = clock_timestamp()")

    assert [round(delay) for delay in delays] == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_a_lost_connection_is_no_messages_fault(pool: Pool, client: Client) -> None:
    await put(pool, KarmaRecalled.subject, b"healthy", {})
    await client.close()

    with pytest.raises(nats.errors.ConnectionClosedError):
        await outbox.relay_all(pool, client)

    assert await pool.fetchval("SELECT failures FROM outbox WHERE published_at IS NULL") == 0
