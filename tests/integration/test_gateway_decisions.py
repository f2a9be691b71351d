"""Decisions over HTTP: a command at the gateway's control socket is carried out by the registry, which answers on the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway import decisions
from services.registry import app as registry
from shared.config.settings import Settings
from shared.storage.postgres import Pool
from tests.support.asking import owner_of
from tests.support.gateways import Gateway, gateway_over
from tests.support.running import eventually
from tests.support.servers import House
from tests.support.services import handlers_only, running

FIRST, SECOND = "scribe@aaa", "scribe@bbb"
ROLL_BACK = {"action": "roll_back", "persona": "scribe", "champion": SECOND, "why": "worse"}


@pytest.fixture
async def gateway(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose persona has a champion and a previous version."""
    async with gateway_over(settings, admin, tmp_path) as one:
        for digest in ("aaa", "bbb"):
            version, _ = await one.add_version("scribe", digest, load=False)
            await one.move_alias("scribe", version)
        yield one


@pytest.fixture
async def owner(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with owner_of(gateway.settings) as client:
        yield client


async def list_made(owner: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await owner.get("/decisions/scribe")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["decisions"]
    return found


async def test_a_decision_is_answered_with_what_came_of_it(gateway: Gateway, owner: httpx.AsyncClient) -> None:
    async with running(handlers_only(registry.app), gateway.settings):
        made = await owner.post("/decisions", json=ROLL_BACK)
        again = await owner.post("/decisions", json=ROLL_BACK)
        retire = {"action": "retire", "persona": "scribe", "version": SECOND, "champion": FIRST, "by": "ada"}
        retired = [await owner.post("/decisions", json=retire) for _ in range(2)]

    assert made.status_code == 200, made.text
    decided = made.json()
    assert (decided["action"], decided["champion"], decided["by"], decided["why"]) == (
        "roll_back",
        FIRST,
        "owner",
        "worse",
    )
    assert again.status_code == 409, again.text
    error = again.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("decision_refused", "invalid_request_error", None)
    assert error["message"] == f"the champion of scribe is {FIRST} by now, not {SECOND}: look again, then decide"
    assert [one.status_code for one in retired] == [200, 409]
    assert "is withdrawn already" in retired[1].text
    found = await list_made(owner)
    assert [(one["action"], one["by"]) for one in found] == [("retire", "ada"), ("roll_back", "owner")]
    assert found[1]["source"] == decided["source"]


async def test_of_two_at_once_each_gets_its_own_answer(gateway: Gateway, owner: httpx.AsyncClient) -> None:
    retire = {"action": "retire", "persona": "scribe", "version": SECOND, "champion": SECOND}
    async with running(handlers_only(registry.app), gateway.settings):
        answers = await asyncio.gather(*(owner.post("/decisions", json=body) for body in (ROLL_BACK, retire)))

    assert sorted(one.status_code for one in answers) == [200, 409]
    [won] = [body["action"] for body, one in zip((ROLL_BACK, retire), answers, strict=True) if one.is_success]
    assert [one["action"] for one in await list_made(owner)] == [won]


async def test_what_the_registry_does_not_answer_is_carried_out_once_it_is_back(
    gateway: Gateway, owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "ANSWERED_S", 0.5)
    accepted = await owner.post("/decisions", json=ROLL_BACK)
    assert accepted.status_code == 202 and await list_made(owner) == []

    monkeypatch.setattr(decisions, "ANSWERED_S", 15)
    later = asyncio.create_task(owner.post("/decisions", json=ROLL_BACK))
    await asyncio.sleep(0.2)  # it waits while the one before is answered
    async with running(handlers_only(registry.app), gateway.settings):
        refused = await later

    assert refused.status_code == 409, "another one's answer is not its own"
    [made] = await list_made(owner)
    assert (made["source"], made["champion"]) == (accepted.json()["source"], FIRST)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"action": "crown"}, "action: "),
        ({"action": "promote"}, "promote needs the version"),
        ({"by": ""}, "by: "),
        ({"persona": "No One"}, "persona: "),
        ({"source": "mine"}, "source: "),
    ],
)
async def test_a_command_that_is_none_is_refused_before_it_is_sent(
    owner: httpx.AsyncClient, change: dict[str, str], expected: str
) -> None:
    answer = await owner.post("/decisions", json={**ROLL_BACK, **change})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_command") and expected in error["message"]
    assert (await owner.get("/decisions/a%00b")).status_code == 404


async def is_refused(owner: httpx.AsyncClient) -> bool:
    """Whether a decision is refused before it is sent; False where the loss of the connection was not noticed yet."""
    answer = await owner.post("/decisions", json=ROLL_BACK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "bus_away")
    return "nothing was decided" in answer.text


async def test_without_nats_nothing_is_decided_and_without_the_database_nothing_is_listed(
    gateway: Gateway, owner: httpx.AsyncClient, house: House
) -> None:
    house.nats.kill()
    try:
        await eventually(lambda: is_refused(owner), 10, "the lost connection is noticed")
        assert await list_made(owner) == []
    finally:
        await house.nats.start()
    house.postgres.kill()
    try:
        listed = await owner.get("/decisions/scribe")
    finally:
        await house.postgres.start()

    assert (listed.status_code, listed.json()["error"]["code"]) == (503, "database_away")
