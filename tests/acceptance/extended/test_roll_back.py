"""A roll back under live load of the real vLLM, from the command to the answers of the version before: `make test-handover`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import httpx
import pytest

from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.storage.postgres import Pool
from tests.support.asking import clients_of
from tests.support.consents import Tell, crypt, told
from tests.support.gateways import serves
from tests.support.model import needs_jobs
from tests.support.real_base import RealBase, Vllms, over_real_base, vllms
from tests.support.running import eventually

__all__ = ["crypt", "told", "vllms"]  # the fixtures

pytestmark = [needs_jobs, pytest.mark.extended, pytest.mark.timeout(1200)]

TOKENS = (16, 16, 16, 16, 1)  # of each client's answers; the last one asks often
ROUNDS = 5
WITHIN_S = 2.0


@dataclass(frozen=True)
class Answer:
    """A streamed answer: when its request began, when its head arrived, and the version that gave it."""

    version: str
    began: float
    head: float


@pytest.fixture
async def base(vllms: Vllms, crypt: Pool, pool: Pool, tmp_path: Path) -> AsyncIterator[RealBase]:
    async with over_real_base(vllms, crypt, pool, tmp_path) as one:
        yield one


async def keep_asking(client: httpx.AsyncClient, tokens: int, answers: list[Answer], done: asyncio.Event) -> None:
    body = {"model": "scribe", "messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": tokens}
    while not done.is_set():
        began = monotonic()
        async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
            found = Answer(answer.headers["x-soulforge-adapter"], began, monotonic())
            assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
        answers.append(found)


async def test_a_roll_back_under_load_takes_effect_within_two_seconds(base: RealBase, crypt: Pool, told: Tell) -> None:
    first, second = [(await base.add_version("scribe", value)).name for value in (0.1, 0.2)]
    await Registry(base.context, RegistrySettings()).reconcile()
    await serves(base.context.settings.gateway_url, "scribe", first, second)
    answers: list[Answer] = []
    report: list[str] = []
    done = asyncio.Event()

    async def answered(version: str, since: float) -> bool:
        return sum(one.version == version and one.began > since for one in answers) >= len(TOKENS)

    async with clients_of(base.context.settings) as client, asyncio.TaskGroup() as load:
        for tokens in TOKENS:
            load.create_task(keep_asking(client, tokens, answers, done))
        for number in range(ROUNDS):
            since = monotonic()
            await eventually(partial(answered, second, since), 60, f"{second} answers")
            began = monotonic()
            assert (await told("adapters", "rollback", "scribe", "--why", "worse"))[0] == 0
            decided_s = monotonic() - began
            await eventually(partial(answered, first, began), 60, f"{first} answers")
            old = max(one.began for one in answers if one.version == second) - began
            new = min(one.head for one in answers if one.version == first and one.began > began) - began
            report.append(
                f"roll back {number}: decided after {decided_s:.2f} s, last request of the version before it after "
                f"{old:.2f} s, first answer of the one rolled back to after {new:.2f} s"
            )
            assert old < WITHIN_S and new < WITHIN_S
            assert (await told("adapters", "promote", second))[0] == 0
        done.set()
    print(f"{len(answers)} answers by {len(TOKENS)} clients", *report, sep="\n  ")
