"""The gateway over small engines: names, a switch under load, and what stays while the rest is away."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from deploy.services import load_configuration, migrations, service_port, service_url
from services.gateway.app import app
from shared.config.settings import Settings
from shared.drivers.inference.open import open_gate
from shared.runtime.service import serve
from shared.storage.postgres import Pool
from tests.support.fakes.vllm_answers import words
from tests.support.gateways import BASE, Gateway, gateway_over
from tests.support.running import eventually
from tests.support.servers import House, free_port_base

CLIENTS, REQUESTS, MOVES, TOKENS = 8, 1000, 40, 6
PROMPT = "hello"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]


@pytest.fixture
async def gateway(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_over(settings, admin, tmp_path, engines=2, limits={"wait_s": 2}, token_s=0.001) as one:
        yield one


def answer_of(model: str, prompt: str = PROMPT) -> str:
    """What a small engine answers as `model`, and as no other."""
    return " ".join(words(model, json.dumps([{"role": "user", "content": prompt}], sort_keys=True), TOKENS))


async def ask(client: openai.AsyncOpenAI, model: str, streamed: bool = False) -> str:
    """The version that answered; the answer is wholly its own, and so is what is reported of it."""
    completions = client.chat.completions.with_raw_response
    if streamed:
        raw = await completions.create(model=model, messages=ASKED, max_tokens=TOKENS, stream=True)
        chunks = [chunk async for chunk in raw.parse()]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        models = {chunk.model for chunk in chunks}
    else:
        whole = await completions.create(model=model, messages=ASKED, max_tokens=TOKENS)
        raw, answer = whole, whole.parse()  # type: ignore[assignment]
        text, models = answer.choices[0].message.content or "", {answer.model}
    version = raw.headers.get("x-soulforge-adapter", BASE)
    assert (text, models) == (answer_of(version), {version})
    return str(version)


async def test_a_persona_s_name_is_enough(gateway: Gateway) -> None:
    version, ritual = await gateway.add_version("scribe", "aaa")
    other, _ = await gateway.add_version("scribe", "bbb")
    missing, _ = await gateway.add_version("scribe", "ccc", load=False)
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version, other, BASE)

    async with gateway.client() as client:
        for streamed in (False, True):
            assert await ask(client, "scribe", streamed) == version
            assert await ask(client, other, streamed) == other
            assert await ask(client, BASE, streamed) == BASE
        raw = await client.chat.completions.with_raw_response.create(model="scribe", messages=ASKED)
        assert raw.headers["x-soulforge-ritual"] == str(ritual)
        with pytest.raises(openai.ConflictError, match="loaded by no engine"):
            await ask(client, missing)
        with pytest.raises(openai.NotFoundError, match="these answer: scribe, base"):
            await ask(client, "nobody")


async def test_a_switch_under_load_fails_no_request_and_mixes_no_answer(gateway: Gateway) -> None:
    versions = [(await gateway.add_version("scribe", digest))[0] for digest in ("aaa", "bbb", "ccc")]
    await gateway.move_alias("scribe", versions[0])
    await gateway.serves("scribe", *versions)
    answered: list[str] = []
    moving = asyncio.create_task(move(gateway, versions))

    async with gateway.client() as client:
        await asyncio.gather(*(keep_asking(client, number, answered, moving.done) for number in range(CLIENTS)))
    await moving

    switches = sum(one != other for one, other in pairwise(answered))
    print(f"{len(answered)} requests, {Counter(answered)}, {switches} changes in the order of their ends")
    assert len(answered) >= REQUESTS and set(answered) == set(versions)
    assert switches >= MOVES


async def move(gateway: Gateway, versions: list[str]) -> None:
    async with gateway.client() as client:
        for number in range(1, MOVES + 1):
            wanted = versions[number % len(versions)]
            await gateway.move_alias("scribe", wanted)
            await eventually(partial(is_answered_by, client, wanted), 5, f"{wanted} answers")


async def is_answered_by(client: openai.AsyncOpenAI, version: str) -> bool:
    return await ask(client, "scribe") == version


async def keep_asking(client: openai.AsyncOpenAI, number: int, answered: list[str], enough: Callable[[], bool]) -> None:
    turn = number
    while not (enough() and len(answered) >= REQUESTS):
        answered.append(await ask(client, "scribe", streamed=turn % 2 == 0))
        turn += 1


async def test_nothing_fails_while_nats_and_postgresql_are_away(gateway: Gateway, house: House) -> None:
    version, _ = await gateway.add_version("scribe", "aaa")
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version)
    answered: list[str] = []
    away = asyncio.create_task(take_away(house, answered))

    async with gateway.client() as client:
        await asyncio.gather(*(keep_asking(client, number, answered, away.done) for number in range(CLIENTS)))
    await away

    print(f"{len(answered)} requests")
    assert set(answered) == {version}
    other, _ = await gateway.add_version("scribe", "bbb")
    await gateway.move_alias("scribe", other)
    async with gateway.client() as client:
        await eventually(lambda: is_answered_by(client, other), 15, "a move after they came back is seen")


async def take_away(house: House, answered: list[str]) -> None:
    """Each server is gone until a hundred requests were answered without it."""
    for server in (house.nats, house.postgres):
        server.kill()
        wanted = len(answered) + 100

        async def enough(wanted: int = wanted) -> bool:
            return len(answered) >= wanted

        try:
            await eventually(enough, 20, "requests are answered")
        finally:
            await server.start()


async def test_a_restart_serves_by_the_table_on_disk_and_by_the_database_once_it_is_back(
    gateway: Gateway, house: House, settings: Settings, admin: Pool, tmp_path: Path
) -> None:
    version, _ = await gateway.add_version("scribe", "aaa")
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version)
    house.postgres.kill()
    house.nats.kill()
    # A second one as a restarted one would be: of the same home, on other ports.
    ports = {"port_base": free_port_base(), "nats": gateway.settings.nats_url}
    restarted = gateway.settings.model_copy(update=ports)
    configuration = load_configuration(gateway.settings)
    port = service_port(restarted, app.name)
    running = asyncio.create_task(serve(app, restarted, configuration, port, migrations()))
    try:
        second = Gateway(restarted, admin, tmp_path, gateway.engines)
        await eventually(lambda: has_status(f"{restarted.gateway_url}/health", 200), 10, "the door is open")
        async with second.client() as client:
            assert await ask(client, "scribe") == version
        await asyncio.gather(house.postgres.start(), house.nats.start())
        await eventually(lambda: has_status(f"{service_url(restarted, app.name)}/health/ready", 200), 40, "it is ready")
        async with second.client() as client:
            assert await ask(client, "scribe") == version
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def has_status(url: str, status: int) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(url)).status_code == status
    except httpx.HTTPError:
        return False


async def test_an_engine_that_goes_costs_a_retry_and_the_last_one_a_503(gateway: Gateway) -> None:
    version, _ = await gateway.add_version("scribe", "aaa")
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version)
    first, last = gateway.engines.values()

    async with gateway.client() as client:
        gates = [open_gate(gateway.settings, rune) for rune in gateway.engines]
        await gates[0].close("training scribe", 77)
        assert await asyncio.gather(*(ask(client, "scribe") for _ in range(8))) == [version] * 8
        await gates[0].open()
        first.process.kill()
        assert await asyncio.gather(*(ask(client, "scribe") for _ in range(8))) == [version] * 8
        for gate in gates:
            await gate.close("training scribe", 77)
        with pytest.raises(openai.InternalServerError, match="training scribe") as closed:
            await ask(client, "scribe")
        assert closed.value.status_code == 503 and closed.value.response.headers["retry-after"] == "77"
        for gate in gates:
            await gate.open()
        last.process.kill()
        with pytest.raises(openai.InternalServerError, match="its engine does not answer") as gone:
            await ask(client, "scribe")
        assert gone.value.status_code == 503 and gone.value.response.headers["retry-after"] == "2"


async def test_what_an_engine_has_just_unloaded_is_answered_by_another_or_refused_by_the_gateway(
    gateway: Gateway,
) -> None:
    version, _ = await gateway.add_version("scribe", "aaa")
    other, _ = await gateway.add_version("scribe", "bbb")
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version, other)
    first, second = gateway.engines.values()

    async with gateway.client() as client:
        for name in (version, other):
            await first.vllm.unload(name)
            assert await asyncio.gather(*(ask(client, name) for _ in range(4))) == [name] * 4
            await second.vllm.unload(name)
        with pytest.raises(openai.ConflictError, match="loaded by no engine"):
            await ask(client, other)
        with pytest.raises(openai.InternalServerError, match="no engine has loaded it yet"):
            await ask(client, "scribe")
        await second.vllm.load(version, gateway.folder)
        assert await ask(client, "scribe") == version


async def test_requests_go_to_the_engine_that_has_the_version_and_the_least_work(gateway: Gateway) -> None:
    first, second = gateway.engines.values()
    version, _ = await gateway.add_version("scribe", "aaa", load=False)
    await first.vllm.load(version, gateway.folder)
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version)

    async with gateway.client() as client:
        await asyncio.gather(*(ask(client, "scribe") for _ in range(20)))
        assert ((await first.vllm.activity()).finished_total, (await second.vllm.activity()).finished_total) == (20, 0)
        await asyncio.gather(*(ask(client, BASE) for _ in range(20)))
    assert ((await first.vllm.activity()).finished_total, (await second.vllm.activity()).finished_total) == (30, 10)
