"""`soulforge watch` and `show` on a ritual whose facts were recorded in a real ledger, up to its verdict."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy.cli.main import run
from shared.config.settings import Settings
from shared.contracts.evacuate import GpuEvacuated, GpuRestored
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.job import JobSpan
from shared.contracts.message import Fact
from shared.contracts.verify import AdapterBanished
from shared.ritual import ledger
from shared.storage.postgres import Pool, open_pool
from tests.support.facts import TRAINING
from tests.unit.cli.rows import COUNTS, VERDICT


@pytest.fixture
async def ritual(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UUID:
    """A ritual that was banished, in a home that the commands use."""
    monkeypatch.setenv("SOULFORGE_HOME", str(settings.home))
    monkeypatch.setenv("SOULFORGE_PORT_BASE", str(settings.port_base))
    monkeypatch.chdir(tmp_path)
    pool = await open_pool(settings.database_url("harvester"), "harvester")
    found = await record_banished(pool)
    await pool.close()
    return found


async def record_banished(pool: Pool) -> UUID:
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, TrainingIntent(persona="scribe", why="it is time"), "one", None)
    named: dict[str, Any] = {"ritual": ritual, "persona": "scribe"}
    spans = (JobSpan(name="train", start_ns=1, end_ns=2),)
    memory = {"memory_before": 3 * 1024**3, "memory_after": 0}
    made = {"adapter": "sha256:a", "path": "/x", "base": "sha256:b", "recipe": "default", "fence": 1}
    judged = {"adapter": "sha256:a", "decision": "banish", "reasons": ("Too little.",), "results": "/r"}
    facts: list[Fact] = [
        KarmaHarvested(**named, manifest="sha256:m", holdout="sha256:h", **COUNTS),
        GpuEvacuated(**named, anvil="anvil0", fence=1, **memory, device="cpu", spans=spans),
        AdapterForged(**named, **made, training=TRAINING, spans=spans, isolation=("network",)),
        AdapterBanished(
            **named,
            **judged,
            evidence="/evidence.json",
            evidence_digest="sha256:e",
            verdict=VERDICT.model_copy(update={"decision": "banish", "reasons": ("Too little.",)}),
        ),
        GpuRestored(**named, anvil="anvil0", seconds_without_inference=21.5),
    ]
    for fact in facts:
        async with pool.acquire() as conn, conn.transaction():
            assert await ledger.record_fact(conn, fact, "harvester", datetime.now(UTC))
    return ritual


async def test_watch_prints_every_fact_the_verdict_and_the_end(
    ritual: UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(run, ["watch", str(ritual)[:8], "--timeout", "20"]) == 1, (
        "its adapter does not serve"
    )

    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1].split(" (")[0] for line in lines[1:6]] == [
        *("harvested", "evacuated", "forged", "banished", "gpu.restored")
    ]
    assert lines[0].endswith("train scribe, recipe default, priority 5: it is time")
    text = "\n".join(lines)
    assert "verdict  banish" in text and "persona NLL" in text and "\nbanished  " in text


async def test_show_reports_the_facts_without_their_spans(ritual: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    assert await asyncio.to_thread(run, ["show", str(ritual)]) == 0
    text = capsys.readouterr().out
    assert "verdict  banish" in text and "40 steps" in text and "Too little." in text

    assert await asyncio.to_thread(run, ["show", str(ritual), "--json"]) == 0
    document = capsys.readouterr().out
    assert '"spans"' not in document and '"isolation"' in document and '"reason": "Too little."' in document
