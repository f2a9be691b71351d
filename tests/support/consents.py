"""A house in which two adapters were trained on records whose owner may withdraw their consent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy.cli.main import run
from services.harvester import app as harvester
from services.harvester.ingest.karma import store_records
from services.registry import decisions, store
from services.registry.policy import Fate
from services.registry.store import Version
from shared.config.settings import Settings
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import ChatMessage, KarmaRecord, Status
from shared.contracts.roles import Role
from shared.messaging.client import connect
from shared.ritual import ledger
from shared.storage.postgres import Connection, Pool, open_pool
from tests.support.servers import TESTER, use_database
from tests.support.services import handlers_only

Tell = Callable[..., Any]


HARVESTER = handlers_only(harvester.app)


def truth(id: str) -> KarmaRecord:
    said = (ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content=f"hello {id}"))
    return KarmaRecord(
        id=id, persona="scribe", messages=said, status=Status.WHITE_TRUTH, consecrated_by="me", session=id
    )


async def harvested(pool: Pool, name: str, manifest: str, state: str = "awakened") -> UUID:
    """A ritual of `scribe` that was given a manifest, and is in `state` by now."""
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, TrainingIntent(persona="scribe", id=name), name, None)
        fact = KarmaHarvested(
            ritual=ritual,
            persona="scribe",
            manifest=manifest,
            holdout="h",
            train=2,
            dev=0,
            held_out=0,
            seen=2,
            excluded={},
        )
        now = await conn.fetchval("SELECT clock_timestamp()")
        assert await ledger.record_fact(conn, fact, "harvester", now)
        ended = "clock_timestamp()" if state == "awakened" else "NULL"
        await conn.execute(f"UPDATE ritual SET state = $2, ended_at = {ended} WHERE id = $1", ritual, state)
    return ritual


async def record_manifest(pool: Pool, digest: str, *karma: str) -> None:
    """A manifest in whose files these records stand."""
    await pool.execute("INSERT INTO manifest VALUES ($1, 'scribe', 'h', 2, 0, 0)", digest)
    await pool.execute(
        "INSERT INTO manifest_record (manifest, karma, side) SELECT $1, unnest($2::text[]), 'train'",
        digest,
        list(karma),
    )


async def make_champion(conn: Connection, persona: str, version: str, ritual: UUID) -> None:
    """Promote a version as the policy does, once it is proven to answer."""
    aliases, standing = await decisions.lock(conn, persona), await decisions.get_standing(conn, version)
    assert aliases and standing
    await decisions.apply_fate(conn, aliases, standing, Fate.PROMOTE, "it passed", ritual, datetime.now(UTC))


@pytest.fixture
async def history(pool: Pool, crypt: Pool) -> dict[str, UUID]:
    """Two rituals of one persona: `a` is in both manifests, `b` in the second, `c` in none."""
    async with pool.acquire() as conn, conn.transaction():
        await store_records(conn, [truth(id) for id in ("a", "b", "c")])
    await record_manifest(pool, "m1", "a", "x")
    await record_manifest(pool, "m2", "a", "x", "b", "y")
    rituals = {name: await harvested(pool, name, f"m{name[1]}") for name in ("r1", "r2")}
    async with crypt.acquire() as conn, conn.transaction():
        for name, ritual in rituals.items():
            version = Version(f"scribe@{name}", "scribe", f"sha256:{name}", "base", ritual, "/nowhere")
            await store.insert_version(conn, version)
            await make_champion(conn, "scribe", f"scribe@{name}", ritual)
    return rituals


@pytest.fixture
async def heard(settings: Settings) -> AsyncIterator[list[Any]]:
    """Everything that is said from now on, in order."""
    client = await connect(settings, TESTER)
    messages: list[Any] = []

    async def keep(message: Any) -> None:
        messages.append((message.subject, json.loads(message.data)))

    for subject in ("karma.recalled", "adapter.tainted", "training.intent"):
        await client.subscribe(subject, cb=keep)
    await client.flush()
    yield messages
    await client.close()


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Any]:
    client = await connect(settings, TESTER)
    yield client.jetstream()
    await client.close()


@pytest.fixture
async def crypt(settings: Settings) -> AsyncIterator[Pool]:
    """Connections as the registry's."""
    pool = await open_pool(settings.database_url("registry"), "registry")
    yield pool
    await pool.close()


@pytest.fixture
def told(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Tell:
    """Run a command in this house: its exit code and what it printed."""
    monkeypatch.setenv("SOULFORGE_NATS", settings.nats_url)
    monkeypatch.setenv("SOULFORGE_NATS_KEY", str(settings.bus_key(Role.OWNER)))
    use_database(settings, tmp_path / "home", monkeypatch)
    monkeypatch.chdir(tmp_path)

    async def tell(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, list(words))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return tell


def of(heard: list[Any], subject: str) -> list[Any]:
    return [body for said, body in heard if said == subject]


async def status(pool: Pool, id: str) -> str:
    return str(await pool.fetchval("SELECT status FROM vectors.karma WHERE id = $1", id))
