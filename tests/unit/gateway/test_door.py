"""The door: its routes, and what was withdrawn, kept on disk."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import httpx
import pytest

from services.gateway.door import Door
from services.gateway.engines import Engines
from services.gateway.forward import Forwarder
from services.gateway.table import Table
from services.gateway.withdrawals import Withdrawals
from shared.config.model import embedded
from shared.config.settings import Settings

BAD = "scribe@b"


def door_in(home: Path) -> Door:
    settings, configuration = Settings(home=home), embedded()
    engines = Engines(settings, configuration)
    return Door(settings, configuration, engines, Forwarder(engines, {}), None)


async def test_a_method_that_a_route_does_not_have_is_answered_with_those_that_it_has(tmp_path: Path) -> None:
    transport = httpx.ASGITransport(door_in(tmp_path).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/v1/chat/completions")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "not_found"


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
