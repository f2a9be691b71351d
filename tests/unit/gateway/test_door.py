"""The door: its routes, and what was withdrawn, kept on disk."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.door import Door
from services.gateway.engines import Engines
from services.gateway.forward import Forwarder
from services.gateway.keys.key import Key, hash_secret
from services.gateway.table import Table
from services.gateway.withdrawals import Withdrawals
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.contracts.registry import AdapterDecide
from shared.contracts.scopes import Scope

BAD = "scribe@b"
PIN = {"action": "pin", "persona": "scribe", "champion": "scribe@a", "why": "good"}


def door_in(home: Path) -> Door:
    settings, configuration = Settings(home=home), embedded()
    engines = Engines(settings, configuration)
    return Door(settings, configuration, engines, Forwarder(engines, {}), None)


def client_of_door(door: Door) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(door.app), base_url="http://localhost")


def key(name: str, scope: Scope) -> Key:
    return Key(id=f"key-{name}", name=name, hash=hash_secret(name), scopes=frozenset({scope}))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/chat/completions", {"POST"}), ("PATCH", "/v1/files", {"GET", "HEAD", "POST"})],
)
async def test_a_method_that_a_route_does_not_have_is_answered_with_those_that_it_has(
    tmp_path: Path, method: str, path: str, allowed: set[str]
) -> None:
    async with client_of_door(door_in(tmp_path)) as client:
        answer = await client.request(method, path, json={})

    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, allowed)
    assert answer.json()["error"]["code"] == "not_found"


async def test_files_are_refused_before_they_are_read_while_the_database_is_away(tmp_path: Path) -> None:
    door = door_in(tmp_path)
    await door.set_keys([key("train", Scope.TRAIN)])
    form: dict[str, Any] = {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", b"{}")}}
    async with client_of_door(door) as client:
        client.headers["authorization"] = "Bearer train"
        answers = [
            await client.post("/v1/files", **form),
            await client.get("/v1/files"),
            await client.get("/v1/files/file-000000000000000000000000"),
        ]

    assert {(one.status_code, one.json()["error"]["code"]) for one in answers} == {(503, "database_away")}
    assert not (tmp_path / "gateway" / "files").exists()


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "after=file-1"])
async def test_a_page_of_files_that_cannot_be_is_refused_by_name(tmp_path: Path, query: str) -> None:
    door = door_in(tmp_path)
    await door.set_keys([key("train", Scope.TRAIN)])
    async with client_of_door(door) as client:
        answer = await client.get(f"/v1/files?{query}", headers={"authorization": "Bearer train"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


async def test_a_withdrawal_that_a_full_disk_refused_is_kept_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = door_in(tmp_path)
    table = Table(read_at=time.time())
    with monkeypatch.context() as full:
        full.setattr("services.gateway.kept.write_atomically", _full_disk)
        with pytest.raises(OSError, match="No space left"):
            await door.withdraw(BAD, "wrong")
        await door.set_table(table)
        assert "No space left" in door.describe_sight()

    await door.set_table(table)

    assert "is current" in door.describe_sight()
    assert Withdrawals(tmp_path, Table()).given[BAD].why == "wrong"


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_decision_is_recorded_for_the_name_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AdapterDecide] = []

    async def decide(command: AdapterDecide) -> str:
        asked.append(command)
        return "source"

    door = door_in(tmp_path)
    monkeypatch.setattr(door.decisions, "decide", decide)
    await door.set_keys([key("ada", Scope.APPROVE), key("root", Scope.ADMIN)])
    async with client_of_door(door) as client:
        statuses = [
            (
                await client.post("/v1/soulforge/decisions", json=body, headers={"authorization": f"Bearer {who}"})
            ).status_code
            for who, body in (
                ("ada", PIN),
                ("ada", PIN | {"by": "ada"}),
                ("root", PIN | {"by": "eve"}),
                ("ada", PIN | {"by": "eve"}),
            )
        ]
        refused = await client.post(
            "/v1/soulforge/decisions", json=PIN | {"by": "eve"}, headers={"authorization": "Bearer ada"}
        )

    assert statuses == [202, 202, 202, 400] and [one.by for one in asked] == ["ada", "ada", "eve"]
    assert refused.json()["error"] == {
        "message": "by: what the key key-ada of ada decides is recorded for ada",
        "type": "invalid_request_error",
        "param": "by",
        "code": "invalid_command",
    }


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_model", "model"),
        ({"model": "unknown"}, "model_not_found", "model"),
    ],
)
async def test_an_error_names_the_field_that_is_wrong(
    body: dict[str, str], code: str, param: str, tmp_path: Path
) -> None:
    door = door_in(tmp_path)
    await door.set_table(Table(read_at=time.time()))
    async with client_of_door(door) as client:
        error = (await client.post("/v1/chat/completions", json=body)).json()["error"]

    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


async def test_a_path_of_several_routes_is_answered_with_the_methods_of_all(tmp_path: Path) -> None:
    async with client_of_door(door_in(tmp_path)) as client:
        answer = await client.options("/v1/files")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert "/v1/chat/completions, " in answer.json()["error"]["message"]


async def test_a_command_that_is_none_is_refused_by_the_name_of_its_field(tmp_path: Path) -> None:
    door = door_in(tmp_path)
    await door.set_keys([key("ada", Scope.APPROVE)])
    async with client_of_door(door) as client:
        answer = await client.post(
            "/v1/soulforge/decisions", json=PIN | {"persona": "No One"}, headers={"authorization": "Bearer ada"}
        )

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_command", "persona")
