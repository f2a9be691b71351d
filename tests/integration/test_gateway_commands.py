"""What the command line shows of a running gateway: `status`, `adapters`, `compare`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from deploy.cli.main import run
from shared.config.settings import Settings
from shared.drivers.inference.http import Http
from shared.drivers.inference.open import open_gate
from shared.storage.postgres import Pool
from tests.support.gateways import BASE, Gateway, gateway_over
from tests.support.running import eventually

PROMPT = "Note about the gate: it squeaks."


@pytest.fixture
async def gateway(
    settings: Settings, admin: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    async with gateway_over(settings, admin, tmp_path) as one:
        monkeypatch.setenv("SOULFORGE_HOME", str(settings.home))
        monkeypatch.setenv("SOULFORGE_PORT_BASE", str(settings.port_base))
        monkeypatch.setenv("SOULFORGE_CONFIG", str(one.settings.config))
        yield one


async def test_the_command_line_shows_what_the_gateway_knows(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    async def soulforge(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, list(words))
        shown = capsys.readouterr()
        return code, " ".join(shown.out.split()), shown.err

    rituals: dict[str, UUID] = {}
    for digest in ("aaa", "abb", "ccc"):
        version, rituals[digest] = await gateway.add_version("scribe", digest)
        await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", "scribe@aaa", "scribe@abb")
    await prove(gateway.admin, "scribe@abb", True)
    await prove(gateway.admin, "scribe@ccc", False)

    async def announced() -> bool:
        return bool(await gateway.admin.fetchval("SELECT count(*) FROM gateway.capability"))

    await eventually(announced, 5, "the capability")

    code, shown, error = await soulforge("compare", "scribe", "base", "previous", PROMPT)
    assert code == 0, error
    assert "base: base" in shown and "previous: scribe@abb" in shown
    assert "engine rune0: no adapter answered" in shown and "engine rune0: proven by 4 prompts" in shown

    code, shown, _ = await soulforge("compare", "scribe", "aa", "champion", PROMPT, "--json")
    first, second = json.loads(shown)["answers"]
    assert code == 1 and first["answer"] != second["answer"]
    assert (first["model"], first["adapter"], first["ritual"]) == ("scribe@aaa", "sha256:aaa", str(rituals["aaa"]))
    assert not first["proven"] and "no proof of it on this engine" in first["evidence"]
    assert not second["proven"] and second["evidence"].endswith("did not find it")
    for wrong, expected in (("a", "is the beginning of several: "), ("xyz", "has no version 'xyz'; its versions: ")):
        code, _, error = await soulforge("compare", "scribe", wrong, "base", PROMPT)
        assert code == 1 and expected in error

    control = Http(f"unix://{gateway.settings.gateway_control_socket}")
    await control.call("POST", "/withdrawals", {"version": "scribe@aaa", "why": "it is wrong"})
    _, shown, error = await soulforge("adapters")
    rows = shown.split("scribe scribe@")
    assert [row.split()[0] for row in rows[1:]] == ["ccc", "abb", "aaa"] and error == ""
    assert "ccc scribe champion rune0 1 " in rows[1] and "abb previous rune0 1 " in rows[2] and " ago" in rows[2]

    _, shown, _ = await soulforge("status")
    assert (
        f"clients are answered at {gateway.url}/v1 and {gateway.settings.door_socket}; its table of versions" in shown
    )
    assert "is current, read" in shown and "rune0 open, 0 in flight, 0 waiting" in shown
    assert "withdrawn: scribe@aaa (it is wrong)" in shown
    assert f"persona scribe answers by scribe@ccc on {BASE}, up to 2048 tokens" in shown

    await open_gate(gateway.settings, "rune0").close("training scribe", 30)
    _, shown, _ = await soulforge("status")
    assert "rune0 closed (training scribe)" in shown
    assert "is served by scribe@ccc, which no open engine has now" in shown


async def prove(admin: Pool, version: str, proven: bool) -> None:
    await admin.execute(
        "INSERT INTO registry.loaded (rune, version, probes, proven) VALUES ('rune0', $1, 4, $2)", version, proven
    )
