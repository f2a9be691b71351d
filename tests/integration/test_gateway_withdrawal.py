"""A withdrawn version answers nothing any more: by alias, by name, by another name of its digest, under load, after restarts."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from time import monotonic
from uuid import uuid4

import httpx
import pytest

from services.registry.decisions import decide
from shared.config.settings import ENGINE_SOCKET, Settings
from shared.contracts.registry import Action, AdapterDecide
from shared.drivers.inference.open import open_gate
from shared.storage.postgres import Pool
from tests.support.asking import Reply, ask, clients_of, owner_of
from tests.support.configurations import configured
from tests.support.fakes.engines import FakeEngine, fake_engine
from tests.support.gateway_process import environment_of, gateway_process
from tests.support.gateways import Gateway, gateway_over, serves, tables_of
from tests.support.running import SOULFORGE, eventually
from tests.support.servers import House

CLIENTS, REQUESTS, MOVES = 8, 1000, 40
AT_ONCE_S = 1.0
WHY = "it says the wrong things"


@pytest.fixture
async def gateway(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_over(settings, admin, tmp_path, engines=2, token_s=0.001) as one:
        yield one


async def retire(pool: Pool, persona: str, version: str) -> float:
    """Decide it as the command line does; returns when it was committed."""
    champion = await pool.fetchval("SELECT champion FROM registry.alias WHERE persona = $1", persona)
    asked = AdapterDecide(
        action=Action.RETIRE, persona=persona, version=version, champion=champion, by="a test", why=WHY
    )
    async with pool.acquire() as conn, conn.transaction():
        await decide(conn, asked)
    return monotonic()


async def test_under_load_only_requests_of_the_withdrawn_version_fail_and_none_is_answered_later(
    gateway: Gateway,
) -> None:
    first, second, bad = [(await gateway.add_version("scribe", digest))[0] for digest in ("aaa", "bbb", "ccc")]
    await gateway.move_alias("scribe", first)
    await gateway.serves("scribe", first, second, bad)
    replies: list[Reply] = []
    moving = asyncio.create_task(move_and_withdraw(gateway, [first, second, bad]))

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        turn = number
        while not (moving.done() and len(replies) >= REQUESTS):
            model = bad if turn % 5 == 0 else "scribe"
            replies.append(await ask(client, model, streamed=turn % 2 == 0))
            turn += 1

    async with clients_of(gateway.settings) as client:
        await asyncio.gather(*(keep_asking(client, number) for number in range(CLIENTS)))
    decided = await moving

    failed = [reply for reply in replies if not reply.answered]
    late = [reply for reply in replies if reply.version == bad and reply.answered and reply.ended > decided + AT_ONCE_S]
    last = max((reply.ended - decided for reply in replies if reply.answered and reply.version == bad), default=0.0)
    print(
        f"{len(replies)} requests, {Counter(reply.version for reply in replies)}, {Counter(one.code for one in failed)};"
        f" the last answer of the withdrawn one {last * 1000:.0f} ms after the decision"
    )
    assert {reply.code for reply in failed} == {"version_withdrawn"} and not [
        one.broken for one in failed if one.broken
    ]
    assert all(reply.ended >= decided for reply in failed)
    assert all(reply.asked == bad or reply.version == bad or reply.status == 503 for reply in failed)
    assert not late
    assert len(replies) >= REQUESTS and {reply.version for reply in replies if reply.answered} == {first, second, bad}


async def move_and_withdraw(gateway: Gateway, versions: list[str]) -> float:
    """Move the alias MOVES times; withdraw the last version half-way (20 % 3 is its place). Returns when that was committed."""
    *others, bad = versions
    decided = 0.0
    for number in range(1, MOVES + 1):
        await gateway.move_alias("scribe", [*others, bad][number % 3] if not decided else others[number % 2])
        await asyncio.sleep(0.1)
        if number == MOVES // 2:
            decided = await retire(gateway.admin, "scribe", bad)
    return decided


@pytest.mark.parametrize("by_socket", [False, True])
async def test_running_streams_of_it_end_at_once_with_a_clean_error_and_the_engine_drops_them(
    settings: Settings, admin: Pool, tmp_path: Path, by_socket: bool
) -> None:
    async with gateway_over(settings, admin, tmp_path, token_s=0.05) as gateway, clients_of(gateway.settings) as client:
        version, _ = await gateway.add_version("scribe", "aaa")
        other, _ = await gateway.add_version("scribe", "bbb")
        await gateway.move_alias("scribe", version)
        await gateway.serves("scribe", version, other)
        models = [version, "scribe", other]
        asking = [
            asyncio.create_task(ask(client, model, streamed, 100)) for model in models for streamed in (True, False)
        ]
        engine = gateway.engines["rune0"].vllm

        async def runs(count: int) -> bool:
            return (await engine.activity()).left == count

        await eventually(partial(runs, len(asking)), 10, "all requests run")
        if by_socket:
            decided = monotonic()
            async with owner_of(gateway.settings) as owner:
                told = await owner.post("/withdrawals", json={"version": version, "why": WHY})
            assert told.json() == {"version": version, "ended": 4}
        else:
            decided = await retire(gateway.admin, "scribe", version)
        ended = await asyncio.gather(*asking[:4])

        assert all(reply.ended - decided < AT_ONCE_S for reply in ended)
        assert [(one.status, one.code, one.broken) for one in ended] == [
            (200, "version_withdrawn", None), (403, "version_withdrawn", None),
            (200, "version_withdrawn", None), (503, "version_withdrawn", None),
        ]  # fmt: skip
        await eventually(partial(runs, 2), 2, "the engine drops what was ended")
        assert all(reply.answered for reply in await asyncio.gather(*asking[4:]))


async def test_a_decision_of_each_kind_refuses_by_digest(gateway: Gateway) -> None:
    versions = {digest: await gateway.add_version("scribe", digest) for digest in ("aaa", "bbb", "ccc", "ddd")}
    twin, _ = await gateway.add_version("coder", "aaa2")
    admin = gateway.admin
    await admin.execute("UPDATE registry.version SET adapter = 'sha256:aaa' WHERE name = $1", twin)
    await gateway.move_alias("coder", twin)
    good, _ = versions["ddd"]
    await gateway.move_alias("scribe", good)
    await gateway.serves("scribe", "coder", *(name for name, _ in versions.values()))

    decided = {
        "aaa": retire(admin, "scribe", "scribe@aaa"),
        "bbb": admin.execute("INSERT INTO registry.taint (ritual, karma) VALUES ($1, 'k1')", versions["bbb"][1]),
        "ccc": admin.execute(
            "INSERT INTO public.ritual_fact (event_id, ritual, subject, step, owner, attempt, state_before, state_after, "
            "body, started_at) VALUES ($1, $2, 'adapter.banished', 's', 'verifier', 1, 'a', 'b', $3, now())",
            uuid4(),
            versions["ccc"][1],
            {"adapter": "sha256:ccc"},
        ),
    }
    async with clients_of(gateway.settings) as client:
        for digest, write in decided.items():
            assert (await ask(client, f"scribe@{digest}")).answered
            await write
            await refused(client, f"scribe@{digest}", AT_ONCE_S)
        for name in (twin, "coder"):
            reply = await ask(client, name)
            assert (reply.status, reply.code) == (403, "version_withdrawn")
        assert (await ask(client, "scribe")).version == good


async def refused(client: httpx.AsyncClient, model: str, within_s: float) -> None:
    """Wait until it is refused; fails where that takes longer."""
    deadline = monotonic() + within_s
    while (reply := await ask(client, model)).answered:
        assert monotonic() < deadline, f"{model} answers after {within_s} s"
    assert (reply.status, reply.code) == (403, "version_withdrawn")


async def test_what_was_missed_while_the_database_was_away_is_applied_once_it_is_back(
    gateway: Gateway, house: House
) -> None:
    version, _ = await gateway.add_version("scribe", "aaa")
    other, _ = await gateway.add_version("scribe", "bbb")
    await gateway.move_alias("scribe", other)
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version, other)
    async with clients_of(gateway.settings) as client:
        house.postgres.kill()
        await asyncio.sleep(1)
        assert (await ask(client, "scribe")).version == version
        health = (await client.get("/health")).json()["table"]
        assert "what was decided since is not known here" in health
        await house.postgres.start()
        await retire(gateway.admin, "scribe", version)
        await refused(client, version, AT_ONCE_S)
        assert (await ask(client, "scribe")).version == other


def command(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SOULFORGE, *words], env=environment_of(settings), capture_output=True, text=True, timeout=60, check=False
    )


async def test_by_the_socket_it_holds_while_the_database_is_away_and_through_restarts_until_it_is_overridden(
    settings: Settings, admin: Pool, house: House, tmp_path: Path
) -> None:
    async with fake_engine(socket=settings.make_engine_dir("rune0") / ENGINE_SOCKET, token_s=0) as engine:
        own = configured(settings, tmp_path, **tables_of(1, tmp_path, {}))
        async with gateway_process(own) as start_again, clients_of(own) as client:
            gateway = Gateway(own, admin, tmp_path, {"rune0": engine})
            version, other = [(await gateway.add_version("scribe", digest))[0] for digest in ("aaa", "bbb")]
            await gateway.move_alias("scribe", other)
            await gateway.move_alias("scribe", version)
            await start_again()
            await open_gate(own, "rune0").open()
            await serves(own.gateway_url, "scribe", version, other)
            house.postgres.kill()
            retired = await asyncio.to_thread(command, own, "adapters", "retire", version, "--why", WHY)
            assert retired.returncode == 1 and "is not recorded yet" in retired.stderr
            await stays_refused(client, version, other)

            await start_again()
            await serves(own.gateway_url, "scribe", version, other)
            await stays_refused(client, version, other)

            await house.postgres.start()
            await eventually(partial(sees, client), 15, "the table is read again")
            await stays_refused(client, version, other)

            await restart(engine, gateway, version, other)
            await stays_refused(client, version, other)

            await admin.execute(
                "UPDATE registry.version SET overridden_at = clock_timestamp() WHERE name = $1", version
            )
            await eventually(partial(is_answered, client, version), 5, "it answers again")


async def stays_refused(client: httpx.AsyncClient, version: str, other: str) -> None:
    reply = await ask(client, version)
    assert (reply.status, reply.code) == (403, "version_withdrawn"), reply
    assert (await ask(client, "scribe")).version == other


async def is_answered(client: httpx.AsyncClient, model: str) -> bool:
    return (await ask(client, model)).answered


async def sees(client: httpx.AsyncClient) -> bool:
    return str((await client.get("/health")).json()["table"]).startswith("is current")


async def restart(engine: FakeEngine, gateway: Gateway, *versions: str) -> None:
    """Restart the engine, which has the withdrawn version loaded again."""
    engine.restart()
    await eventually(engine.vllm.healthy, 20, "the engine is back")
    for version in versions:
        await engine.vllm.load(version, gateway.folder)
    await gateway.serves(*versions)
