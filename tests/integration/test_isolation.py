"""Where jobs cannot be isolated none is started and no anvil is taken, unless the owner allows it; and both are shown."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from nats.aio.client import Client

from deploy.cli.main import run
from deploy.cli.queries.stack import get_stack_status
from services.forge.app import app as forge
from services.orchestrator import views
from services.orchestrator.anvil import Anvil
from shared.config.model import embedded
from shared.config.settings import PROJECT, Settings
from shared.config.tables import JobsConfig
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterForged
from shared.contracts.job import WALLS, is_unisolated
from shared.contracts.ritual import State
from shared.drivers.containers.account import as_job_account
from shared.drivers.containers.port import ContainerInfo
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.sandbox import why_not
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import JobKind, JobPlan, Jobs, job_containers
from shared.ritual import ledger
from shared.runtime.context import ServiceContext
from shared.runtime.presence import Isolation, JobIsolation, list_isolation
from shared.storage.postgres import Pool
from tests.integration.test_authorization_files import ProbingJob, Tries
from tests.integration.test_gpu_stage import BAD, GOOD, ending
from tests.integration.test_health import becomes_ready, says
from tests.support.anvils import FakeRune, anvil, checks, context, rune, state_of
from tests.support.configurations import configured
from tests.support.isolation import WHY, let_isolate
from tests.support.orchestrated import harvested
from tests.support.servers import House
from tests.support.services import running
from tests.support.stages import evacuated, reconcile_until_moved

__all__ = ["anvil", "context", "rune"]  # fixtures

PROBER = ("-m", "tests.support.fakes.file_prober")


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that cannot isolate jobs, until the test lets it."""
    let_isolate(monkeypatch, WHY)
    return monkeypatch


def stage_of(settings: Settings, pool: Pool, client: Client, allow: bool = False) -> GpuStage:
    configured = JobsConfig(python=Path(sys.executable), allow_unisolated=allow)
    configuration = embedded().model_copy(update={"jobs": configured})
    return ending(ServiceContext("forge", settings, pool, client, configuration), GOOD)


async def test_a_ritual_is_held_back_while_jobs_cannot_be_isolated_and_goes_on_once_they_can(
    denied: pytest.MonkeyPatch, admin: Pool, anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    forge_stage = stage_of(context.settings, admin, context.nats)
    ritual = await harvested(context.settings, "one")
    await forge_stage.reconcile()

    await checks(anvil, 4)

    assert await state_of(context.pool, ritual) is State.HARVESTED and rune.open_ and rune.done == []
    assert await views.list_handovers(context.pool, ritual) == []
    decision = await views.get_decision(context.pool, ritual)
    assert decision and decision.measures == {"cause": "jobs"}
    assert decision.reason.startswith(f"waits: forge cannot start jobs: {WHY}")
    assert "allow_unisolated" in decision.reason

    let_isolate(denied)
    await forge_stage.reconcile()
    await checks(anvil, 2)
    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_a_ritual_is_held_back_for_the_verifier_too(
    denied: pytest.MonkeyPatch, admin: Pool, anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    let_isolate(denied)
    await stage_of(context.settings, admin, context.nats).reconcile()
    let_isolate(denied, WHY)
    verifier = stage_of(context.settings, admin, context.nats)
    await replace(verifier, context=replace(verifier.context, service="verifier")).reconcile()
    ritual = await harvested(context.settings, "one")

    await checks(anvil, 3)

    assert await state_of(context.pool, ritual) is State.HARVESTED and rune.done == []


async def test_what_the_owner_allows_takes_the_anvil(
    denied: pytest.MonkeyPatch, admin: Pool, anvil: Anvil, context: ServiceContext
) -> None:
    await stage_of(context.settings, admin, context.nats, allow=True).reconcile()
    ritual = await harvested(context.settings, "one")

    await checks(anvil, 2)

    assert await state_of(context.pool, ritual) is State.EVACUATED


async def test_the_service_is_not_ready_while_jobs_cannot_be_isolated(denied: pytest.MonkeyPatch, house: House) -> None:
    async with running(forge, house.settings) as url:
        await says(url, f"jobs: {WHY}")
        let_isolate(denied)
        await becomes_ready(url)


MENDED_MEANWHILE = """
import asyncio, os
from pathlib import Path
from shared.drivers.containers import sandbox
from shared.drivers.containers.process import ProcessContainers
wheel, path = sandbox.find_spec, os.environ["PATH"]
containers = ProcessContainers(Path(os.environ["BROKEN"]))
def show(broken, seconds):
    sandbox.find_spec, os.environ["PATH"] = (lambda name: None, os.environ["BROKEN"]) if broken else (wheel, path)
    sandbox.monotonic = lambda: seconds
    print(asyncio.run(containers.why_not_isolated()))
show(True, 0)
show(False, 0)
show(True, 59)
show(True, 61)
"""


async def test_a_machine_that_is_mended_or_breaks_is_noticed_by_a_process_that_runs(tmp_path: Path) -> None:
    if why_not(tmp_path):
        pytest.skip("this machine cannot isolate jobs")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no permissions >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MENDED_MEANWHILE),
        cwd=PROJECT,
        env={**os.environ, "BROKEN": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
    )
    denied, mended, kept, broken = (await child.communicate())[0].decode().splitlines()

    assert denied.startswith("jobs cannot be isolated: ") and "no permissions" in denied
    assert "apt-get install bubblewrap" in denied and 'driver = "docker"' in denied
    assert mended == kept == "None"
    assert broken == denied


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that cannot map the owners of files."""
    folders = [tmp_path / name for name in ("lower", "upper", "work", "overlay")]
    for folder in folders:
        folder.mkdir()
    lower, upper, work, overlay = folders
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounted = subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", overlay], check=False)
    if mounted.returncode:
        pytest.skip("this machine cannot mount an overlay")
    yield overlay
    subprocess.run(["umount", overlay], check=True)


@pytest.mark.skipif(not as_job_account(), reason="only jobs that root starts have their owners mapped")
@pytest.mark.parametrize("made", [True, False], ids=["made", "not yet made"])
async def test_a_home_whose_owners_cannot_be_mapped_is_found_before_a_job_starts(overlay: Path, made: bool) -> None:
    directory = overlay / "home/containers"
    if made:
        directory.mkdir(parents=True)

    why = await ProcessContainers(directory).why_not_isolated()

    assert why and "cannot map owners" in why and "ext4" in why and "apt-get" not in why
    assert list(overlay.iterdir()) == ([overlay / "home"] if made else [])


async def test_no_job_is_started_where_it_cannot_be_isolated(
    denied: pytest.MonkeyPatch, settings: Settings, admin: Pool, client: Client
) -> None:
    ritual = await harvested(settings, "one")
    await evacuated(admin, ritual)
    stage = stage_of(settings, admin, client)

    await stage.reconcile()

    assert await ProcessContainers(settings.containers_dir).list({"ritual": str(ritual)}) == []
    error = await admin.fetchval("SELECT error FROM ritual_error WHERE ritual = $1", ritual)
    assert WHY in error
    assert (await list_isolation(admin))["forge"].isolation is Isolation.REFUSED


@pytest.mark.parametrize("result", [GOOD, BAD], ids=["well", "badly"])
async def test_an_unisolated_job_is_recorded_as_such_however_it_ends(
    denied: pytest.MonkeyPatch, settings: Settings, admin: Pool, client: Client, result: object
) -> None:
    ritual = await harvested(settings, "one")
    await evacuated(admin, ritual)
    stage = stage_of(settings, admin, client, allow=True)
    stage = replace(stage, work=replace(stage.work, result=result))  # type: ignore[type-var]
    inspect = ProcessContainers.inspect

    async def limited(containers: ProcessContainers, name: str) -> ContainerInfo | None:
        info = await inspect(containers, name)
        return info and info.model_copy(update={"limits": ("time",)})

    denied.setattr(ProcessContainers, "inspect", limited)
    await reconcile_until_moved(stage, ritual)

    assert (await list_isolation(admin))["forge"] == JobIsolation(Isolation.UNISOLATED, WHY)
    kind: type[GpuInterrupted | AdapterForged] = GpuInterrupted if result is BAD else AdapterForged
    isolation = (await ledger.require_fact(admin, ritual, kind)).isolation
    assert is_unisolated(isolation) and "time" in isolation


async def test_the_permission_leaves_a_job_isolated_where_that_is_possible(
    settings: Settings, admin: Pool, client: Client
) -> None:
    if why_not(settings.containers_dir):
        pytest.skip("this machine cannot isolate jobs")
    ritual = await harvested(settings, "one")
    await evacuated(admin, ritual)

    await reconcile_until_moved(stage_of(settings, admin, client, allow=True), ritual)

    assert set((await ledger.require_fact(admin, ritual, AdapterForged)).isolation) >= WALLS
    assert (await list_isolation(admin))["forge"] == JobIsolation(Isolation.ISOLATED)


async def test_a_job_cannot_read_the_configuration_that_lies_among_what_it_is_given(
    settings: Settings, admin: Pool, client: Client, tmp_path: Path
) -> None:
    if why_not(settings.containers_dir):
        pytest.skip("this machine cannot isolate jobs")
    given = tmp_path / "given"
    given.mkdir()
    (given / "data").write_text("of the job")
    settings = configured(settings, given)
    fence = await evacuated(admin, await harvested(settings, "one"))
    (ritual,) = await ledger.list_rituals(admin, State.EVACUATED)
    configuration = embedded().model_copy(update={"jobs": JobsConfig(python=Path(sys.executable))})
    context = ServiceContext("forge", settings, admin, client, configuration)
    jobs = Jobs(context, job_containers(context), JobKind("trainer", PROBER, 1024**3, 60))
    tries = tuple(("read", str(given / name)) for name in ("data", "soulforge.toml"))

    async with asyncio.timeout(60):
        while (finished := await jobs.follow(ritual, fence, lambda out: plan_of(out, tries, given))) is None:
            await asyncio.sleep(0.05)
    await jobs.forget(ritual)  # the next test has a ritual of this name

    assert finished.result.ok, finished.result.error
    assert finished.result.result["found"] == [True, False]


def plan_of(output: Path, tries: Tries, given: Path) -> JobPlan:
    return JobPlan(ProbingJob(output=output, tries=tries), (given,))


async def test_status_watch_and_show_mention_jobs_that_run_unisolated(
    denied: pytest.MonkeyPatch,
    settings: Settings,
    admin: Pool,
    client: Client,
    capsys: pytest.CaptureFixture[str],
) -> None:
    denied.setenv("SOULFORGE_HOME", str(settings.home))
    denied.setenv("SOULFORGE_PORT_BASE", str(settings.port_base))
    ritual = await harvested(settings, "one")
    await evacuated(admin, ritual)
    await reconcile_until_moved(stage_of(settings, admin, client, allow=True), ritual)

    found = await get_stack_status(settings)
    jobs = next(finding for finding in found.parts if finding.part == "jobs")
    assert jobs.warning and WHY in jobs.text
    assert "UNISOLATED" in await shown(capsys, "show", ritual)
    watched = (await shown(capsys, "watch", ritual, "--timeout", "1")).splitlines()
    assert "jobs run UNISOLATED" in watched[1] and WHY in watched[1]
    assert any("forged (" in line and "UNISOLATED: only" in line for line in watched)


async def shown(capsys: pytest.CaptureFixture[str], command: str, ritual: UUID, *more: str) -> str:
    await asyncio.to_thread(run, [command, str(ritual), *more])
    return capsys.readouterr().out
