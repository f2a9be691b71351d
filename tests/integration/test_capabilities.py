"""What the gateway announces: a row and a message for each persona that answers, gone while it does not; and its local socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from nats.aio.msg import Msg

from services.gateway.views import AnnouncedCapability, list_capabilities
from shared.config.settings import Settings
from shared.contracts.capability import CapabilityAnnounced, CapabilityWithdrawn
from shared.contracts.roles import Role
from shared.drivers.inference.http import Http
from shared.drivers.inference.open import open_gate
from shared.messaging.client import connect
from shared.storage.postgres import Pool
from tests.support.gateways import BASE, Gateway, gateway_over
from tests.support.running import eventually

WITHIN_S = 5.0

Heard = list[CapabilityAnnounced | CapabilityWithdrawn]


@pytest.fixture
async def heard(settings: Settings) -> AsyncIterator[Heard]:
    """What another component hears on the bus, in order."""
    client = await connect(settings, Role.PUBLISHER)
    messages: Heard = []

    async def keep(message: Msg) -> None:
        kind = CapabilityAnnounced if message.subject == CapabilityAnnounced.subject else CapabilityWithdrawn
        messages.append(kind.model_validate_json(message.data))

    for kind in (CapabilityAnnounced, CapabilityWithdrawn):
        await client.subscribe(kind.subject, cb=keep)
    await client.flush()
    yield messages
    await client.close()


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(settings.database_url("publisher"))
    try:
        yield connection
    finally:
        await connection.close()


async def rows(settings: Settings) -> list[AnnouncedCapability]:
    async with reader(settings) as connection:
        return await list_capabilities(connection)


async def hears(heard: Heard, count: int) -> CapabilityAnnounced | CapabilityWithdrawn:
    """The last of so many messages."""

    async def arrived() -> bool:
        return len(heard) >= count

    await eventually(arrived, WITHIN_S, f"{count} messages about capabilities")
    assert len(heard) == count, heard
    return heard[-1]


async def test_a_persona_is_announced_while_it_answers_and_withdrawn_around_each_hand_over(
    settings: Settings, admin: Pool, tmp_path: Path, heard: Heard
) -> None:
    async with gateway_over(settings, admin, tmp_path, engines=2) as gateway:
        first, ritual = await gateway.add_version("scribe", "aaa")
        second, _ = await gateway.add_version("scribe", "bbb")
        await gateway.move_alias("scribe", first)
        announced = await hears(heard, 1)
        told = {
            "persona": "scribe",
            "model": "scribe",
            "version": first,
            "adapter": "sha256:aaa",
            "ritual": ritual,
            "base": BASE,
            "context_limit": 2048,
            "address": f"{gateway.url}/v1",
        }
        assert isinstance(announced, CapabilityAnnounced) and announced.model_dump(exclude={"at"}) == told
        (row,) = await rows(settings)
        assert {name: getattr(row, name) for name in told} == told

        await gateway.move_alias("scribe", second)
        assert (await hears(heard, 2)).version == second

        # Another engine of the base goes on.
        await open_gate(gateway.settings, "rune0").close("training scribe", 30)
        await open_gate(gateway.settings, "rune1").close("training scribe", 30)
        withdrawn = await hears(heard, 3)
        assert isinstance(withdrawn, CapabilityWithdrawn) and withdrawn.version == second
        assert "closed since" in withdrawn.reason and "training scribe" in withdrawn.reason
        assert await rows(settings) == []

        await open_gate(gateway.settings, "rune1").open()
        assert isinstance(await hears(heard, 4), CapabilityAnnounced)
        assert [one.version for one in await rows(settings)] == [second]

        await withdraw(gateway, first)
        await withdraw(gateway, second)
        last = await hears(heard, 5)
        assert isinstance(last, CapabilityWithdrawn) and "was withdrawn: it is wrong" in last.reason


async def withdraw(gateway: Gateway, version: str) -> None:
    control = Http(f"unix://{gateway.settings.gateway_control_socket}")
    await control.call("POST", "/withdrawals", {"version": version, "why": "it is wrong\x00"})


async def test_a_start_repairs_what_was_announced_before(
    settings: Settings, admin: Pool, tmp_path: Path, heard: Heard
) -> None:
    async with gateway_over(settings, admin, tmp_path) as gateway:
        version, _ = await gateway.add_version("scribe", "aaa")
        await gateway.move_alias("scribe", version)
        await hears(heard, 1)
    (row,) = await rows(settings)
    await admin.execute(
        "INSERT INTO gateway.announced (persona, model, version, adapter, ritual, base, context_limit, address) "
        "SELECT 'ghost', model, version, adapter, ritual, base, context_limit, address FROM gateway.announced"
    )
    await admin.execute(
        "UPDATE public.service_heartbeat SET passed_at = passed_at - interval '1 minute' WHERE service = 'gateway'"
    )
    assert await rows(settings) == [], "of a gateway that is away"

    async with gateway_over(settings, admin, tmp_path) as gateway:  # its engine is a new one, and has no adapter
        await hears(heard, 3)
        assert {(one.persona, type(one)) for one in heard[1:]} == {
            ("scribe", CapabilityWithdrawn),
            ("ghost", CapabilityWithdrawn),
        }
        await gateway.engines["rune0"].vllm.load(version, tmp_path)
        assert (await hears(heard, 4)).persona == row.persona


async def test_clients_of_the_same_account_reach_the_gateway_by_its_socket(
    settings: Settings, admin: Pool, tmp_path: Path
) -> None:
    async with gateway_over(settings, admin, tmp_path) as gateway:
        version, _ = await gateway.add_version("scribe", "aaa")
        await gateway.move_alias("scribe", version)
        await gateway.serves("scribe")
        socket = gateway.settings.door_socket
        asked = {"model": "scribe", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        answered = await Http(f"unix://{socket}").ask("POST", "/v1/chat/completions", asked)

        assert json.loads(answered.content)["model"] == answered.headers["x-soulforge-adapter"] == version
        assert [path.stat().st_mode & 0o777 for path in (socket, socket.parent)] == [0o600, 0o700]
        assert [path.name for path in socket.parent.iterdir()] == ["gateway.sock"], "a container gets nothing else"
        refused = await Http(f"unix://{socket}").ask("GET", "/table")
        assert refused.status_code == 404
