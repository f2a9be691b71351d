"""A gateway with jobs, and the handlers of a harvester behind it; the test plays everybody else by recording facts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import openai
from openai.types.fine_tuning import FineTuningJob

from services.harvester.app import app as harvester
from shared.config.settings import Settings
from shared.contracts.message import Fact, ritual_id
from shared.contracts.scopes import Scope
from shared.ritual import ledger
from shared.ritual.ledger import Ritual
from shared.storage.postgres import Pool
from tests.support.gateways import BASE, Gateway, gateway_over
from tests.support.running import eventually
from tests.support.services import handlers_only, running

WITHIN_S = 15.0
RECONCILE_S = 0.1


def examples(count: int = 12, word: str = "note") -> bytes:
    """A file of so many examples in OpenAI's chat form."""
    turns = [(f"{word} {number}", f"Note | {word} {number}") for number in range(count)]
    messages = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in turns]
    return b"".join(json.dumps({"messages": one}).encode() + b"\n" for one in messages)


def preferences(count: int = 12) -> bytes:
    """A file of so many preferences in OpenAI's form."""
    lines = (
        {
            "input": {"messages": [{"role": "user", "content": f"note {number}"}]},
            "preferred_output": [{"role": "assistant", "content": f"Note | {number}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"Sure! I noted {number}."}],
        }
        for number in range(count)
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@dataclass
class Tuning:
    """The running gateway, and the ledger as the services of the stages write it."""

    gateway: Gateway
    admin: Pool
    clients: list[openai.AsyncOpenAI] = field(default_factory=list)

    async def client(
        self, *scopes: Scope, name: str = "ada", personas: frozenset[str] | None = None
    ) -> openai.AsyncOpenAI:
        """The stock client with a key of its own."""
        return self.connect(await self.gateway.add_key(*scopes, name=name, personas=personas))

    def connect(self, secret: str) -> openai.AsyncOpenAI:
        self.clients.append(self.gateway.client(key=secret))
        return self.clients[-1]

    async def create(self, client: openai.AsyncOpenAI, content: bytes | None = None, **fields: Any) -> FineTuningJob:
        """Upload a file and create a job of it."""
        file = await client.files.create(file=("examples.jsonl", content or examples()), purpose="fine-tune")
        asked = {"model": BASE, "training_file": file.id, "suffix": "scribe", **fields}
        return await client.fine_tuning.jobs.create(**asked)

    async def ritual(self, job: FineTuningJob) -> Ritual:
        """The ritual of a job, once there is one."""
        found: list[Ritual] = []

        async def is_open() -> bool:
            if ritual := await ledger.get_ritual(self.admin, ritual_id(job.id)):
                found.append(ritual)
            return bool(found)

        await eventually(is_open, WITHIN_S, f"{job.id} has a ritual")
        return found[0]

    async def state(self, ritual: UUID, facts: Sequence[Fact]) -> None:
        """Record facts about a ritual, whichever they were made for. They are published by no service that runs here."""
        for fact in facts:
            one = fact.model_copy(update={"ritual": ritual})
            async with self.admin.acquire() as conn, conn.transaction():
                await conn.execute("SET LOCAL search_path = orchestrator, public")
                assert await ledger.record_fact(conn, one, "harvester", datetime.now(UTC)), fact.subject


async def becomes(client: openai.AsyncOpenAI, id: str, status: str, within_s: float = WITHIN_S) -> FineTuningJob:
    """The job, once it has this status."""
    found: list[FineTuningJob] = []

    async def has_status() -> bool:
        found.append(await client.fine_tuning.jobs.retrieve(id))
        return found[-1].status == status

    await eventually(has_status, within_s, f"{id} is {status}")
    return found[-1]


async def waits_for(client: openai.AsyncOpenAI, id: str, reason: str) -> FineTuningJob:
    """The job, once what it waits for has this in it."""
    found: list[FineTuningJob] = []

    async def waits() -> bool:
        found.append(await client.fine_tuning.jobs.retrieve(id))
        return reason in str(ours(found[-1])["waits_for"])

    await eventually(waits, WITHIN_S, f"{id} waits for {reason}")
    return found[-1]


def ours(job: FineTuningJob) -> dict[str, Any]:
    """What OpenAI's form has no field for."""
    assert job.model_extra
    found: dict[str, Any] = job.model_extra["soulforge"]
    return found


async def messages_of(client: openai.AsyncOpenAI, id: str) -> list[str]:
    """What the events of a job say, in their order."""
    return [event.message async for event in client.fine_tuning.jobs.list_events(id, limit=100)][::-1]


@asynccontextmanager
async def tuning_over(settings: Settings, admin: Pool, folder: Path) -> AsyncIterator[Tuning]:
    async with (
        gateway_over(settings, admin, folder, reconcile_s=RECONCILE_S) as gateway,
        running(handlers_only(harvester), gateway.settings),
    ):
        tuning = Tuning(gateway, admin)
        try:
            yield tuning
        finally:
            for client in tuning.clients:
                await client.close()
