"""A training that runs out of memory goes on with fewer rows at once; one that fits in no way takes no anvil."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from services.forge.reconcile import Forge
from services.harvester.split import Split
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE, JobsConfig
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed
from shared.contracts.ritual import State
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import JobKind
from shared.ritual import lease, ledger
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool, open_pool
from tests.support.configurations import configured
from tests.support.harvest_outcome import outcome
from tests.support.harvests import record, remember, session_on
from tests.support.orchestrated import named_base
from tests.support.sized import sized_base
from tests.support.stages import ANVIL, JOB_S, evacuated, harvested, reconcile_until_moved, state

MIB = 1024**2
ENOUGH_FOR_ONE, TOO_LITTLE = 120 * MIB, 75 * MIB  #: rows of the fake trainer


@pytest.fixture
async def context(settings: Settings, client: Client, tmp_path: Path) -> AsyncIterator[ServiceContext]:
    named_base(tmp_path / "models")
    settings = settings.model_copy(update={"models": tmp_path / "models"})
    Artifacts(settings.home).manifest("sha256:m").mkdir(parents=True, exist_ok=True)
    configuration = embedded().model_copy(update={"jobs": JobsConfig(python=Path(sys.executable))})
    pool = await open_pool(settings.database_url("forge"), "forge")
    yield ServiceContext("forge", settings, pool, client, configuration)
    await pool.close()


def forge(context: ServiceContext, memory: int) -> GpuStage:
    kind = JobKind("trainer", ("-m", "tests.support.fakes.hungry_trainer"), memory, JOB_S)
    return GpuStage(context, State.EVACUATED, kind, max_attempts=1, work=Forge(context))


async def test_each_end_for_want_of_memory_halves_the_rows_and_is_no_failure(
    admin: Pool, context: ServiceContext
) -> None:
    ritual = await harvested(admin)
    stage, rows = forge(context, ENOUGH_FOR_ONE), []

    for attempt in (1, 2, 3):
        fence = await evacuated(admin, ritual, attempt)
        moved = await reconcile_until_moved(stage, ritual)
        if moved.state is State.HARVESTED:
            lost = await ledger.require_fact(admin, ritual, GpuInterrupted)
            rows.append(lost.rows_at_once)
            assert "memory limit" in lost.reason
            await lease.release(admin, ANVIL, fence)

    failed = await ledger.require_fact(admin, ritual, AdapterFailed)
    assert rows == [4, 2]
    assert await ledger.count_failures(admin, ritual) == 0
    assert "trained with 1 rows" in failed.reason


async def test_after_one_row_that_keeps_the_least_the_ritual_fails_with_the_reason(
    admin: Pool, context: ServiceContext
) -> None:
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    await state(admin, GpuInterrupted(ritual=ritual, persona="scribe", reason="no memory", rows_at_once=1))
    await lease.release(admin, ANVIL, fence)
    await evacuated(admin, ritual, attempt=2)

    assert (await reconcile_until_moved(forge(context, TOO_LITTLE), ritual)).state is State.FAILED

    failed = await ledger.require_fact(admin, ritual, AdapterFailed)
    assert "ran out of memory with 1 rows at once" in failed.reason and "max_length" in failed.reason


async def test_a_recipe_that_fits_in_no_way_is_refused_before_the_anvil_is_taken(
    pool: Pool, settings: Settings, tmp_path: Path
) -> None:
    sized_base(tmp_path / "models" / EMBEDDED_BASE)
    for side in (Split.TRAIN, Split.HOLDOUT):
        await remember(pool, [record(f"note-{side}", session_on(side), f"A note for {side}.", "It is noted.")])
    settings = settings.model_copy(update={"models": tmp_path / "models"})
    harvest = {"min_train": 1, "min_held_out": 1, "likeness": {"by_meaning": False}}

    subject, stated = await outcome(
        pool, configured(settings, tmp_path, training={"memory": "800MiB"}, harvest=harvest)
    )

    assert subject == "adapter.failed"
    assert stated["reason"].startswith("the training does not fit into memory: with one row of ")
    assert await pool.fetchval("SELECT state FROM ritual") == State.FAILED
