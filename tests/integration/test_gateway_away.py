"""While an engine is away: waiting, the portal, or 503, under load; every request counted, none broken."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.app import app
from shared.config.settings import ENGINE_SOCKET, FIRST_RUNE_PORT, Settings
from shared.storage.postgres import Pool
from tests.support.asking import Reply, ask, clients_of, owner_of
from tests.support.configurations import configured
from tests.support.fakes.engines import FakeEngine, fake_engine
from tests.support.gateways import BASE, Gateway, tables_of
from tests.support.services import running

CLIENTS = 8
RUNE = "/engines/rune0"
ESTIMATE_S = 900.0
KEY = "key of the portal"
PORTAL = "stand-in"


class House:
    """A gateway over an engine, and a portal that is another small engine."""

    def __init__(self, gateway: Gateway, version: str, owner: httpx.AsyncClient) -> None:
        self.gateway, self.version, self.owner = gateway, version, owner
        self.engine = gateway.engines["rune0"]

    async def command(self, name: str, **body: Any) -> dict[str, Any]:
        answer = await self.owner.post(f"{RUNE}/{name}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.owner.get(RUNE)).json()
        return found

    async def restart_engine(self) -> None:
        self.engine.restart()
        while not await self.engine.vllm.healthy():
            await asyncio.sleep(0.05)
        await self.engine.vllm.load(self.version, self.gateway.folder)


@asynccontextmanager
async def house_with(
    settings: Settings,
    admin: Pool,
    folder: Path,
    persona: dict[str, Any],
    portal: FakeEngine | None = None,
    limits: dict[str, Any] | None = None,
    token_s: float = 0.02,
) -> AsyncIterator[House]:
    more = dict(limits or {})
    if portal:
        key = folder / "portal.key"
        key.write_text(KEY)
        key.chmod(0o600)
        more["portal"] = {"daily_tokens": 1_000_000, **more.get("portal", {})}
        more["portal"] |= {"url": f"{portal.vllm.url}/v1", "key_file": str(key), "model": PORTAL}
    async with fake_engine(socket=settings.make_engine_dir("rune0") / ENGINE_SOCKET, token_s=token_s) as engine:
        tables = tables_of(1, folder, more)
        own = configured(settings, folder, **tables, personas={"scribe": persona})
        async with running(app, own), owner_of(own) as owner:
            gateway = Gateway(own, admin, folder, {"rune0": engine})
            version, _ = await gateway.add_version("scribe", "aaa")
            await gateway.move_alias("scribe", version)
            house = House(gateway, version, owner)
            assert (await house.state())["state"] == "closed"
            await house.command("open")
            await gateway.serves("scribe", version)
            yield house


async def keep_asking(settings: Settings, replies: list[Reply], done: Callable[[], bool]) -> None:
    async with clients_of(settings) as client:

        async def one(turn: int) -> None:
            while not done():
                replies.append(await ask(client, "scribe", streamed=turn % 2 == 0, tokens=8))
                turn += 1
                await asyncio.sleep(0.005)

        await asyncio.gather(*(one(number) for number in range(CLIENTS)))


async def evacuate(house: House, retry_after_s: float, away_s: float = 1.0) -> tuple[int, dict[str, Any]]:
    """What an orchestrator does: close, drain briefly, abort, stop the engine, start it, open. How many it aborted, and the last state."""
    await asyncio.sleep(0.5)
    closed = await house.command("close", reason="training scribe", retry_after_s=retry_after_s)
    assert closed["state"] == "closed"
    aborted = (await house.command("abort"))["aborted"]
    assert (await house.state())["in_flight"] == 0
    house.engine.end()
    await asyncio.sleep(away_s)
    await house.restart_engine()
    last = await house.state()
    await house.command("open")
    await asyncio.sleep(0.7)
    return int(aborted), last


async def test_refused_at_once_with_the_hand_over_s_own_estimate(
    settings: Settings, admin: Pool, tmp_path: Path
) -> None:
    async with house_with(settings, admin, tmp_path, {"away": "refuse"}) as house:
        replies: list[Reply] = []
        work = asyncio.create_task(evacuate(house, ESTIMATE_S))
        await keep_asking(house.gateway.settings, replies, work.done)
        aborted, last = await work

        counts = Counter(reply.code or "answered" for reply in replies)
        state = await house.state()
        print(f"{len(replies)} requests: {counts}; {state}")
        assert not [reply.broken for reply in replies if reply.broken]
        assert counts.keys() == {"answered", "inference_suspended", "inference_aborted"}
        refused = [reply for reply in replies if reply.code == "inference_suspended"]
        assert {reply.status for reply in refused} == {503}
        waits = [int(reply.retry_after or 0) for reply in refused]
        assert waits and all(ESTIMATE_S - 10 <= wait_s <= ESTIMATE_S for wait_s in waits)
        assert counts["inference_aborted"] == aborted == state["aborted_total"]
        assert len(refused) == state["refused_total"] >= last["refused"] > 0
        assert counts["answered"] + aborted == state["admitted_total"]
        assert state["in_flight"] == state["waiting"] == 0 and state["state"] == "open"


async def test_requests_wait_in_the_queue_and_go_on_when_it_opens(
    settings: Settings, admin: Pool, tmp_path: Path
) -> None:
    async with house_with(settings, admin, tmp_path, {}) as house:
        replies: list[Reply] = []
        most = 0
        work = asyncio.create_task(evacuate(house, retry_after_s=2))

        async def watch() -> None:
            nonlocal most
            while not work.done():
                most = max(most, (await house.state())["waiting"])
                await asyncio.sleep(0.05)

        await asyncio.gather(keep_asking(house.gateway.settings, replies, work.done), watch())
        aborted, _ = await work

        counts = Counter(reply.code or "answered" for reply in replies)
        state = await house.state()
        print(f"{len(replies)} requests: {counts}, at most {most} waited; {state}")
        assert not [reply.broken for reply in replies if reply.broken]
        assert counts.keys() <= {"answered", "inference_aborted"} and most == CLIENTS
        assert counts["inference_aborted"] == aborted
        assert counts["answered"] + aborted == state["admitted_total"] and state["refused_total"] == 0
        assert state["waiting"] == 0 and max(reply.ended - reply.began for reply in replies) < 15


async def test_the_queue_is_bounded_in_length_and_time_and_waits_for_nothing_that_is_expected_later(
    settings: Settings, admin: Pool, tmp_path: Path
) -> None:
    async with (
        house_with(settings, admin, tmp_path, {}, limits={"waiting": 2, "wait_s": 1.5}) as house,
        clients_of(house.gateway.settings) as client,
    ):
        await house.command("close", reason="training scribe", retry_after_s=ESTIMATE_S)
        at_once = await ask(client, "scribe")
        assert at_once.code == "inference_suspended" and at_once.ended - at_once.began < 1
        await house.command("close", reason="soon", retry_after_s=0)
        replies = await asyncio.gather(*(ask(client, "scribe") for _ in range(4)))
        assert Counter(reply.code for reply in replies) == {"busy": 2, "inference_suspended": 2}
        assert all(1.4 < one.ended - one.began < 5 for one in replies if one.code != "busy")
        state = await house.state()
        assert (state["refused"], state["waiting"]) == (3, 0)
        leaving = asyncio.create_task(ask(client, "scribe"))
        while (await house.state())["waiting"] == 0:
            await asyncio.sleep(0.02)
        leaving.cancel()
        while (await house.state())["waiting"]:
            await asyncio.sleep(0.02)


@pytest.fixture
async def portal(settings: Settings) -> AsyncIterator[FakeEngine]:
    async with fake_engine(port=settings.port_base + FIRST_RUNE_PORT, base=PORTAL, token_s=0) as engine:
        yield engine


LEAVES = {"away": "portal", "leaves_home": True}


async def test_the_portal_answers_meanwhile(
    settings: Settings, admin: Pool, tmp_path: Path, portal: FakeEngine
) -> None:
    async with house_with(settings, admin, tmp_path, LEAVES, portal) as house:
        replies: list[Reply] = []
        work = asyncio.create_task(evacuate(house, ESTIMATE_S))
        await keep_asking(house.gateway.settings, replies, work.done)
        aborted, _ = await work

        counts = Counter(reply.code or ("portal" if reply.portal else "answered") for reply in replies)
        state = await house.state()
        finished = (await portal.vllm.activity()).finished_total
        print(f"{len(replies)} requests: {counts}; {state}")
        assert not [reply.broken for reply in replies if reply.broken]
        assert counts.keys() <= {"answered", "portal", "inference_aborted"}
        assert counts["portal"] == finished > 0 and counts["inference_aborted"] == aborted
        assert counts["answered"] + aborted == state["admitted_total"] and state["refused_total"] == 0
        assert {reply.portal for reply in replies} == {None, "127.0.0.1"}
        assert not [reply for reply in replies if reply.portal and reply.version]


async def test_the_portal_never_answers_for_a_pinned_version_nor_for_one_who_stays_home(
    settings: Settings, admin: Pool, tmp_path: Path, portal: FakeEngine
) -> None:
    async with (
        house_with(settings, admin, tmp_path, LEAVES, portal) as house,
        clients_of(house.gateway.settings) as client,
    ):
        other, _ = await house.gateway.add_version("coder", "bbb")
        await house.gateway.move_alias("coder", other)
        await house.gateway.serves("coder")
        await house.command("close", reason="training scribe", retry_after_s=ESTIMATE_S)
        assert (await ask(client, "scribe")).portal
        for model in (house.version, "coder", other, BASE):
            reply = await ask(client, model)
            assert (reply.code, reply.portal) == ("inference_suspended", None)
        assert (await portal.vllm.activity()).finished_total == 1


async def test_the_portal_s_tokens_of_a_day_are_limited_also_across_a_restart(
    settings: Settings, admin: Pool, tmp_path: Path, portal: FakeEngine
) -> None:
    limits = {"portal": {"daily_tokens": 120}}
    answered = []
    for _ in range(2):
        async with (
            house_with(settings, admin, tmp_path, LEAVES, portal, limits) as house,
            clients_of(house.gateway.settings) as client,
        ):
            await house.command("close", reason="training scribe", retry_after_s=ESTIMATE_S)
            replies = [await ask(client, "scribe", tokens=8) for _ in range(4)]
            answered.append(sum(reply.portal is not None for reply in replies))
            assert {reply.code for reply in replies if not reply.portal} == {"inference_suspended"}
            await admin.execute("TRUNCATE public.ritual, registry.version, registry.alias CASCADE")
    assert 0 < answered[0] < 4 and answered[1] == 0


async def test_a_portal_that_fails_leaves_a_clean_refusal(
    settings: Settings, admin: Pool, tmp_path: Path, portal: FakeEngine
) -> None:
    async with (
        house_with(settings, admin, tmp_path, LEAVES, portal) as house,
        clients_of(house.gateway.settings) as client,
    ):
        portal.end()
        await house.command("close", reason="training scribe", retry_after_s=ESTIMATE_S)
        for streamed in (False, True):
            reply = await ask(client, "scribe", streamed)
            assert (reply.status, reply.code) == (503, "inference_suspended")
