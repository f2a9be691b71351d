"""Keys of clients on the running gateway: added and revoked by the command line, also while the database is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic

import httpx
import openai
import pytest

from deploy.cli.main import run
from deploy.services import load_configuration
from services.gateway.servers import open_door
from shared.config.settings import Settings
from shared.storage.postgres import Pool
from tests.support.gateways import BASE, Gateway, gateway_over
from tests.support.running import eventually
from tests.support.servers import House

Soulforge = Callable[..., Awaitable[tuple[int, str, str]]]
AT_ONCE_S = 1.0


@pytest.fixture
async def gateway(
    settings: Settings, admin: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    monkeypatch.setattr("services.gateway.table_reader.EVERY_S", 60.0)  # what changes is announced by the database
    async with gateway_over(settings, admin, tmp_path, limits={"wait_s": 0}, token_s=0) as one:
        monkeypatch.setenv("SOULFORGE_HOME", str(settings.home))
        monkeypatch.setenv("SOULFORGE_PORT_BASE", str(settings.port_base))
        monkeypatch.setenv("SOULFORGE_CONFIG", str(one.settings.config))
        await one.serves(BASE)
        yield one


@pytest.fixture
def soulforge(capsys: pytest.CaptureFixture[str]) -> Soulforge:
    async def tell(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, list(words))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return tell


async def add(soulforge: Soulforge, *words: str) -> tuple[str, str]:
    """Add a key; its secret and its id."""
    code, shown, error = await soulforge("keys", "add", *words)
    assert code == 0, error
    [found] = re.findall(r"^(key-[0-9a-f]{12}) of ", error, re.MULTILINE)
    [secret] = re.findall(r"^sk-soulforge-\S+$", shown, re.MULTILINE)  # the gateway of the test logs to the same stream
    return secret, found


def client_with(gateway: Gateway, secret: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0)


async def ask(client: openai.AsyncOpenAI, model: str = BASE) -> str:
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    return str(answer.choices[0].message.content)


async def send(client: openai.AsyncOpenAI, requests: int) -> None:
    for _ in range(requests):
        await client.models.list()


async def is_refused(client: openai.AsyncOpenAI) -> bool:
    try:
        await client.models.list()
    except openai.AuthenticationError:
        return True
    except openai.RateLimitError:
        pass
    return False


async def test_a_key_opens_at_once_as_far_as_it_allows_and_is_refused_within_a_second_of_its_end(
    gateway: Gateway, admin: Pool, soulforge: Soulforge
) -> None:
    for persona in ("scribe", "coder"):
        version, _ = await gateway.add_version(persona, "aaa")
        await gateway.move_alias(persona, version)
    await gateway.serves("scribe", "coder")
    secret, id = await add(soulforge, "ada", "--scope", "chat", "--persona", "scribe", "--per-minute", "9")

    async with client_with(gateway, secret) as client:
        began = monotonic()
        await eventually(lambda: is_let_in(client), AT_ONCE_S, "the key opens")
        assert await ask(client, "scribe") and await ask(client, "scribe@aaa") and await ask(client)
        for foreign in ("coder", "coder@aaa", "unknown"):
            with pytest.raises(openai.PermissionDeniedError) as denied:
                await ask(client, foreign)
            assert (denied.value.code, denied.value.type) == ("insufficient_scope", "permission_error")
        assert {card.id async for card in client.models.list()} == {BASE, "scribe", "scribe@aaa"}
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("coder")
        with pytest.raises(openai.RateLimitError) as limited:
            await send(client, 10)
        assert monotonic() - began < 50
        assert (
            limited.value.code == "rate_limit_exceeded" and 0 < int(limited.value.response.headers["retry-after"]) <= 60
        )

        assert "ada" in (await soulforge("keys", "list"))[1]
        code, shown, _ = await soulforge("keys", "revoke", "ada")
        assert code == 0 and f"{id} of ada is refused from now on\n" in shown
        await eventually(lambda: is_refused(client), AT_ONCE_S, "the key is refused")
    code, _, error = await soulforge("keys", "revoke", id)
    assert code == 1 and f"no keys in force are '{id}'" in error


async def is_let_in(client: openai.AsyncOpenAI) -> bool:
    return not await is_refused(client)


async def test_keys_are_known_while_the_database_is_away_and_after_a_restart(
    gateway: Gateway, house: House, soulforge: Soulforge
) -> None:
    (secret, _), (ended, id) = [await add(soulforge, "ada", "--scope", "chat") for _ in range(2)]
    async with client_with(gateway, secret) as good, client_with(gateway, ended) as bad:
        await eventually(lambda: is_let_in(bad), AT_ONCE_S, "the keys open")
        await soulforge("keys", "revoke", id)
        await eventually(lambda: is_refused(bad), AT_ONCE_S, "the key is refused")
        house.postgres.kill()
        try:
            assert await ask(good) and await is_refused(bad)
            code, _, error = await soulforge("keys", "revoke", "ada")
            assert code == 1 and "PostgreSQL does not answer" in error
            own = gateway.settings.model_copy(update={"port_base": gateway.settings.port_base + 1})
            async with open_door(own, load_configuration(own)):
                restarted = Gateway(own, gateway.admin, gateway.folder)
                async with client_with(restarted, secret) as good_again, client_with(restarted, ended) as bad_again:
                    assert await is_let_in(good_again) and await is_refused(bad_again)
        finally:
            await house.postgres.start()


async def test_the_command_line_asks_with_the_owners_key(gateway: Gateway, soulforge: Soulforge) -> None:
    version, _ = await gateway.add_version("scribe", "aaa")
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe")
    file = gateway.settings.owner_key_file
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text().strip()

    code, shown, _ = await soulforge("ask", "scribe", "hi")
    assert code == 0 and shown
    async with httpx.AsyncClient(base_url=gateway.url, headers={"authorization": f"Bearer {secret}"}) as client:
        assert (await client.get("/v1/soulforge/decisions/scribe")).status_code == 200
    file.write_text("sk-soulforge-foreign")
    try:
        code, _, error = await soulforge("ask", "scribe", "hi")
        assert code == 1 and "this key is not known here" in error
    finally:
        file.write_text(secret)


async def test_when_a_key_was_used_last_is_recorded(gateway: Gateway, admin: Pool, soulforge: Soulforge) -> None:
    secret, id = await add(soulforge, "ada", "--scope", "train", "--expires", "90d")
    async with client_with(gateway, secret) as client:
        await eventually(lambda: is_let_in(client), AT_ONCE_S, "the key opens")
    await gateway.add_version("scribe", "aaa")  # a change, after which the gateway reconciles

    async def recorded() -> bool:
        return bool(await admin.fetchval("SELECT last_used_at IS NOT NULL FROM gateway.api_key WHERE id = $1", id))

    await eventually(recorded, 5, "the use is recorded")
    _, shown, error = await soulforge("keys", "list")
    [line] = [line for line in shown.splitlines() if line.startswith(id)]
    assert "train; until 20" in line and line.rstrip().endswith("open") and "never" not in line
    assert "besides, owner, with all rights" in error and secret not in shown + error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ada"], "Missing option '--scope'"),
        (["ada", "--scope", "fly"], "'fly' is not one of 'chat', 'train', 'consecrate', 'approve', 'admin'"),
        (["ada", "--scope", "admin", "--scope", "chat"], "--scope admin includes every other scope"),
        (["ada", "--scope", "admin", "--persona", "scribe"], "--scope admin includes every other scope"),
        (["ada", "--scope", "consecrate"], "needs --scope train as well"),
        (["ada", "--scope", "chat", "--persona", "Not A Name"], "--persona: 'Not A Name' is no name of a persona"),
        (["ada", "--scope", "chat", "--per-minute", "0"], "greater than or equal to 1"),
        (["ada", "--scope", "chat", "--expires", "soon"], "'soon' is not a duration"),
        (["owner", "--scope", "chat"], "NAME: 'owner' cannot be used"),
        ([" ", "--scope", "chat"], "NAME: ' ' cannot be used"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(words: list[str], expected: str, soulforge: Soulforge) -> None:
    code, shown, error = await soulforge("keys", "add", *words)

    assert code in (1, 2) and shown == "" and expected in error
