"""What the portal costs: charged before a request is sent, and no more than it did cost after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.gateway.forward import open_session
from services.gateway.kept import Kept
from services.gateway.portal import Portal, PortalError, Spent
from services.gateway.request import Asked
from services.gateway.settings import GatewaySettings, PortalSettings
from shared.asgi.replies import Message

ASKED = Asked(json.dumps({"model": "scribe", "max_tokens": 400}).encode())


async def send(message: Message) -> None:
    pass


async def ask(portal: Portal) -> None:
    await portal.answer({"path": "/v1/chat/completions"}, send, ASKED)


@pytest.fixture
def settings(tmp_path: Path) -> PortalSettings:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("sk-0")
    return PortalSettings(url="http://127.0.0.1:1/v1", key_file=key, model="large", daily_tokens=1000)


async def test_a_client_that_leaves_before_its_request_is_sent_costs_nothing(
    settings: PortalSettings, tmp_path: Path
) -> None:
    async with open_session(GatewaySettings()) as session:
        portal = Portal(tmp_path, settings, session)
        for _ in range(5):
            asking = asyncio.create_task(ask(portal))
            await asyncio.sleep(0)  # what it may cost is charged, and being written
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        await asyncio.gather(*portal._charging)

    assert Kept(tmp_path, "portal", Spent()).read().tokens == 0


async def test_a_client_that_leaves_before_its_answer_begins_costs_what_it_may_have_cost(
    settings: PortalSettings, tmp_path: Path
) -> None:
    sent = asyncio.Event()

    async def work_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        sent.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(work_on, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, open_session(GatewaySettings()) as session, asyncio.timeout(5):
        portal = Portal(tmp_path, settings.model_copy(update={"url": url}), session)
        asking = asyncio.create_task(ask(portal))
        await sent.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.gather(*portal._charging)

    assert Kept(tmp_path, "portal", Spent()).read().tokens > 400


async def test_a_portal_that_is_not_reached_costs_nothing(settings: PortalSettings, tmp_path: Path) -> None:
    async with open_session(GatewaySettings()) as session:
        portal = Portal(tmp_path, settings, session)
        with pytest.raises(PortalError, match="is not reached"):
            await ask(portal)
        await asyncio.gather(*portal._charging)

    assert Kept(tmp_path, "portal", Spent()).read().tokens == 0
