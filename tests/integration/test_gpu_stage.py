"""What forge and verifier share: a real job for a ritual that holds the anvil, and the fact that comes of its end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from nats.aio.client import Client

from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import JobsConfig
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed, AdapterForged, TrainingFigures
from shared.contracts.job import JobResult
from shared.contracts.message import Fact
from shared.contracts.ritual import State
from shared.drivers.containers.port import ContainerInfo, ContainerSpec
from shared.drivers.containers.process import ProcessContainers
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import JOB_FILE, Finished, JobKind, JobPlan, Jobs, job_containers
from shared.jobs.start_limit import boot_time
from shared.ritual import lease, ledger
from shared.ritual.lease import Lease
from shared.ritual.ledger import Ritual
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool, open_pool
from tests.support.facts import TRAINING
from tests.support.fakes.ending_job import EndingJob
from tests.support.stages import ANVIL, JOB_S, LEASE_S, evacuated, harvested, reconcile_until_moved

MAX_ATTEMPTS = 2
GOOD = JobResult(ok=True, result=TRAINING.model_dump(mode="json"))
BAD = JobResult(ok=False, error="out of memory")


@pytest.fixture
async def context(settings: Settings, client: Client) -> AsyncIterator[ServiceContext]:
    configuration = embedded().model_copy(update={"jobs": JobsConfig(python=Path(sys.executable))})
    pool = await open_pool(settings.database_url("forge"), "forge")
    yield ServiceContext("forge", settings, pool, client, configuration)
    await pool.close()


@dataclass
class Ending:
    """Work whose jobs end with this result."""

    result: JobResult | None
    pause_s: float = 0
    progress_every_s: float = 0

    async def plan(self, ritual: Ritual, held: Lease) -> Callable[[Path], JobPlan]:
        return lambda output: JobPlan(self._job(output), ())

    def _job(self, output: Path) -> EndingJob:
        pauses = {"pause_s": self.pause_s, "progress_every_s": self.progress_every_s}
        return EndingJob(output=output, result=self.result, **pauses)

    def out_of_memory(self, ritual: Ritual, finished: Finished) -> None: ...

    def request_after(self, ritual: Ritual, fact: Fact) -> None: ...

    async def conclude(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        return AdapterForged(
            **ritual.key,
            adapter="sha256:a",
            path=str(finished.output),
            base="sha256:b",
            recipe="default",
            fence=held.fence,
            training=TrainingFigures.model_validate(finished.result.result),
            isolation=finished.isolation,
        )


def ending(context: ServiceContext, result: JobResult | None, pause_s: float = 0) -> GpuStage:
    """A stage whose jobs end with this result, after a pause."""
    kind = JobKind("trainer", ("-m", "tests.support.fakes.ending_job"), 1024**3, JOB_S)
    return GpuStage(context, State.EVACUATED, kind, MAX_ATTEMPTS, Ending(result, pause_s))


async def test_a_job_that_ends_well_is_concluded_and_forgotten(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    stage = ending(context, GOOD)

    assert (await reconcile_until_moved(stage, ritual)).state is State.FORGED

    forged = await ledger.require_fact(context.pool, ritual, AdapterForged)
    assert (forged.training, forged.fence) == (TRAINING, fence)
    containers = job_containers(context)
    assert await containers.inspect(Jobs(context, containers, stage.kind).name(ritual, 1)) is None


@pytest.mark.parametrize("result", [BAD, None], ids=["with a reason", "without a result"])
async def test_a_job_that_fails_gets_another_attempt_and_the_last_one_ends_the_ritual(
    admin: Pool, context: ServiceContext, result: JobResult | None
) -> None:
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    stage = ending(context, result)

    again = await reconcile_until_moved(stage, ritual)
    assert (again.state, again.attempt) == (State.HARVESTED, 2)

    await lease.release(admin, ANVIL, fence)
    await evacuated(admin, ritual, attempt=2)
    assert (await reconcile_until_moved(stage, ritual)).state is State.FAILED
    failed = await ledger.require_fact(context.pool, ritual, AdapterFailed)
    assert "given up after 2 attempts" in failed.reason


async def test_a_failure_that_no_retry_can_mend_ends_the_ritual_at_once(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)

    ended = await reconcile_until_moved(ending(context, BAD.model_copy(update={"permanent": True})), ritual)

    assert (ended.state, ended.attempt) == (State.FAILED, 1)


async def test_a_cancelled_ritual_ends_without_a_job(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)
    await ledger.request_cancel(admin, ritual, "not wanted")

    assert (await reconcile_until_moved(ending(context, GOOD), ritual)).state is State.CANCELLED

    assert await job_containers(context).list({"ritual": str(ritual)}) == []


async def test_nothing_is_done_for_a_ritual_whose_lease_is_gone(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    await lease.release(admin, ANVIL, fence)

    await ending(context, GOOD).reconcile()

    assert await job_containers(context).list({"ritual": str(ritual)}) == []


@pytest.mark.parametrize("lost", ["before the launch", "during the launch"])
async def test_a_job_that_starts_after_its_lease_was_lost_is_ended_at_once(
    admin: Pool, context: ServiceContext, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    start = ProcessContainers.start

    async def stalled(containers: ProcessContainers, spec: ContainerSpec) -> ContainerInfo:
        started = None if lost == "before the launch" else await start(containers, spec)
        await lease.release(admin, ANVIL, fence)
        assert await lease.acquire(admin, ANVIL, ritual, 2, 60) == fence + 1
        return started or await start(containers, spec)

    monkeypatch.setattr(ProcessContainers, "start", stalled)
    await ending(context, GOOD, pause_s=JOB_S).reconcile()

    assert await job_containers(context).list({"ritual": str(ritual)}) == []


async def test_a_job_that_cannot_be_proven_to_hold_the_lease_is_ended(
    admin: Pool, context: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)
    start = ProcessContainers.start

    async def then_the_database_is_away(containers: ProcessContainers, spec: ContainerSpec) -> ContainerInfo:
        monkeypatch.setattr(lease, "get_seconds_left", away)
        return await start(containers, spec)

    async def away(*_: object) -> float:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(ProcessContainers, "start", then_the_database_is_away)
    stage = ending(context, GOOD)
    await stage.reconcile()
    assert await job_containers(context).list({"ritual": str(ritual)}) == []

    monkeypatch.undo()
    assert (await reconcile_until_moved(stage, ritual)).state is State.FORGED


async def test_a_job_knows_until_when_it_may_start(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)
    stage = ending(context, GOOD)

    before = boot_time()
    await stage.reconcile()

    job_file = Artifacts(context.settings.home).run(ritual, 1, "trainer") / JOB_FILE
    job = EndingJob.model_validate_json(job_file.read_bytes())
    assert job.start_before and before + LEASE_S - 5 < job.start_before < boot_time() + LEASE_S
    await reconcile_until_moved(stage, ritual)


async def test_the_lease_is_renewed_while_the_job_runs_and_not_before(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    stage = ending(context, GOOD, pause_s=3.0)

    async def left_s_after_a_beat() -> float:
        await admin.execute("UPDATE lease SET expires_at = clock_timestamp() + interval '20 seconds'")
        await stage.heartbeat().run()
        return await lease.get_seconds_left(admin, ritual, fence) or 0.0

    assert await left_s_after_a_beat() <= 20
    await stage.reconcile()
    assert await left_s_after_a_beat() > context.configuration.runtime.lease_ttl_s - 10
    await reconcile_until_moved(stage, ritual)


async def test_a_job_without_progress_is_ended_and_one_that_progresses_is_left_alone(
    admin: Pool, context: ServiceContext
) -> None:
    stalled_s = 2.0
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    stage = ending(context, GOOD, pause_s=JOB_S)
    stage = replace(stage, kind=replace(stage.kind, stalled_after_s=stalled_s))

    again = await reconcile_until_moved(stage, ritual)

    assert (again.state, again.attempt) == (State.HARVESTED, 2)
    lost = await ledger.require_fact(context.pool, ritual, GpuInterrupted)
    assert "the trainer made no progress for" in lost.reason
    assert await job_containers(context).list({"ritual": str(ritual)}) == []

    await lease.release(admin, ANVIL, fence)
    await evacuated(admin, ritual, attempt=2)
    progressing = replace(stage, work=Ending(GOOD, pause_s=2 * stalled_s, progress_every_s=0.1))
    assert (await reconcile_until_moved(progressing, ritual)).state is State.FORGED
