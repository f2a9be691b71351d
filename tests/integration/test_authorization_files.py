"""Who may do what with the files of a home: its account, another one of the machine, and a job. Tried on a home in use."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from nats.aio.client import Client

from deploy.embedded import parts
from deploy.embedded.part_supervisor import PartSupervisor
from services.harvester.split import Split
from shared.config.model import embedded
from shared.config.settings import ENGINE_SOCKET, Settings
from shared.config.tables import JobsConfig
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.jobs.runner import JobKind, JobPlan, Jobs, job_containers
from shared.jobs.start_limit import GpuJob
from shared.ritual import ledger
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool
from tests.support.adapters import save_adapter
from tests.support.authorization import Attempt, compare
from tests.support.bundles import frozen
from tests.support.configurations import configured
from tests.support.fakes import file_prober
from tests.support.harvests import record, remember, session_on
from tests.support.running import SOULFORGE, eventually
from tests.support.stages import evacuated

NOBODY = 65534
JOB_S = 60
SMALL = {"min_train": 1, "min_held_out": 1, "likeness": {"by_meaning": False}}  # without the jobs environment
ABOUT = """\
The files of a home in use, by who tries. The owner is the account that the services run as. Another account was tried on the
home as it is, and on one whose own folder was opened to everyone: what lies below is closed, too. The job is a trainer with
its manifest as input."""

Tries = tuple[tuple[str, str], ...]


class ProbingJob(GpuJob):
    """The job file of tests/support/fakes/file_prober.py."""

    output: Path
    tries: Tries


@pytest.fixture
def private() -> Iterator[None]:
    """What this process writes in the place of a service, it writes as one."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@asynccontextmanager
async def harvester(settings: Settings, announced: list[str]) -> AsyncIterator[None]:
    """The service as the supervisor starts it, below a process that would let everyone read its files."""
    part = next(part for part in parts.parts(settings, os.environ) if part.name == "harvester")
    part = replace(part, command=("sh", "-c", 'umask 0; exec "$@"', "sh", *part.command))
    settings.logs_dir.mkdir(exist_ok=True)
    supervisor = PartSupervisor(part, settings.logs_dir, announced.append, lambda *_: None)
    await supervisor.start()
    try:
        yield
    finally:
        await supervisor.stop()


async def harvest(settings: Settings, pool: Pool, client: Client) -> KarmaHarvested:
    for side in (Split.TRAIN, Split.HOLDOUT):
        await remember(pool, [record(f"of-{side}", session_on(side), f"Note for {side}: the gate.", "Oil the gate.")])
    answer = await client.request(TrainingIntent.subject, b'{"persona": "scribe"}', timeout=10)
    ritual = json.loads(answer.data)["ritual"]

    async def harvested() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM ritual_fact WHERE ritual = $1", ritual))

    await eventually(harvested, JOB_S, "the harvest")
    subject, body = await pool.fetchrow("SELECT subject, body FROM ritual_fact WHERE ritual = $1", ritual) or ("", "")
    assert subject == KarmaHarvested.subject, body
    return await ledger.require_fact(pool, ritual, KarmaHarvested)


def freeze_bundle(settings: Settings, folder: Path) -> Path:
    source = save_adapter(folder / "adapter", value=0.1)
    return frozen(Artifacts(settings.home), source)


class Trainer:
    """A job of the real runner and driver, for the ritual of a harvest."""

    def __init__(self, settings: Settings, pool: Pool, client: Client, harvested: KarmaHarvested) -> None:
        configuration = embedded().model_copy(update={"jobs": JobsConfig(python=Path(sys.executable))})
        context = ServiceContext("forge", settings, pool, client, configuration)
        kind = JobKind("trainer", ("-m", "tests.support.fakes.file_prober"), 1024**3, JOB_S)
        self.jobs = Jobs(context, job_containers(context), kind)
        self.pool, self.harvested = pool, harvested
        self.manifest = Artifacts(settings.home).manifest(harvested.manifest)
        self.folder = Artifacts(settings.home).run(harvested.ritual, 1, "trainer")
        self.container = self.jobs.name(harvested.ritual, 1)

    async def probe(self, tries: Tries) -> list[bool]:
        fence = await evacuated(self.pool, self.harvested.ritual)
        ritual = await ledger.get_ritual(self.pool, self.harvested.ritual)
        assert ritual
        deadline = monotonic() + JOB_S
        while monotonic() < deadline:
            finished = await self.jobs.follow(
                ritual, fence, lambda output: JobPlan(ProbingJob(output=output, tries=tries), (self.manifest,))
            )
            if finished:
                assert finished.result.ok, finished.result.error
                found: list[bool] = finished.result.result["found"]
                return found
            await asyncio.sleep(0.05)
        raise AssertionError("the job did not end")


def probe_as(account: int, folder: Path, tries: Tries) -> list[bool]:
    """What a process of that account can do."""
    job = folder / f"job-{account}.json"
    job.write_text(json.dumps({"output": None, "tries": tries}))
    command = [sys.executable, file_prober.__file__, str(job), str(account)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[bool] = json.loads(ran.stdout)["result"]["found"]
    return found


@contextmanager
def opened(*folders: Path) -> Iterator[None]:
    """Let everyone enter these folders meanwhile."""
    for folder in folders:
        folder.chmod(0o711)
    yield
    for folder in folders:
        folder.chmod(0o700)


def list_operations(settings: Settings, trainer: Trainer, bundle: Path) -> dict[str, tuple[str, Path]]:
    """Every operation, with its path."""
    home, artifacts = settings.home, Artifacts(settings.home)
    sealed = artifacts.holdout(trainer.harvested.holdout)
    holdout, manifest = next(sealed.rglob("*.jsonl")), next(trainer.manifest.rglob("*.jsonl"))
    secret = next(path for path in (home / "secrets").rglob("*") if path.is_file())
    engine, gate = settings.make_engine_dir("rune") / ENGINE_SOCKET, settings.gateway_control_socket
    door = settings.door_socket
    for folder in (gate.parent, door.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    for socket in (engine, gate, door):
        socket.unlink(missing_ok=True)  # one that an earlier gateway left cannot be opened as a file
        socket.touch()  # only its place matters here
    log = next(settings.logs_dir.glob("*.log"))
    return {
        "list the home": ("see", home / "secrets"),
        "add a file to the home": ("make", home / "added"),
        "read the configuration": ("read", home / "soulforge.toml"),
        "change the configuration": ("write", home / "soulforge.toml"),
        "list the secrets": ("see", secret),
        "read a secret": ("read", secret),
        "change a secret": ("write", secret),
        "list the sealed holdouts": ("see", sealed),
        "read a sealed holdout": ("read", holdout),
        "change a sealed holdout": ("write", holdout),
        "read the manifest": ("read", manifest),
        "change the manifest": ("write", manifest),
        "add a manifest": ("make", artifacts.lab / "manifests" / "added"),
        "read the job file": ("read", trainer.folder / "job.json"),
        "change the job file": ("write", trainer.folder / "job.json"),
        "add to the job's output": ("make", trainer.folder / "out" / "added"),
        "add to the ritual's runs": ("make", trainer.folder / "added"),
        "reach an engine": ("write", engine),
        "reach the gate of an engine": ("write", gate),
        "reach the gateway by its socket": ("write", door),
        "list the Crypt": ("see", bundle),
        "read a bundle of the Crypt": ("read", bundle / "adapter" / "adapter_config.json"),
        "add to the Crypt": ("make", artifacts.crypt / "adapters" / "added"),
        "read a log": ("read", log),
        "change a log": ("write", log),
        "list the containers": ("see", settings.containers_dir / trainer.container),
        "change the record of a container": ("write", settings.containers_dir / trainer.container / "container.json"),
        "list the streams of NATS": ("see", next((home / "nats" / "jetstream").iterdir())),
        "change the configuration of NATS": ("write", home / "nats" / "nats.conf"),
        "list the data of PostgreSQL": ("see", home / "postgres" / "PG_VERSION"),
        "read who may enter PostgreSQL": ("read", home / "postgres" / "pg_hba.conf"),
    }


def list_made(operations: dict[str, tuple[str, Path]], found: list[bool]) -> list[bool]:
    """What was found, where something made counts only if it is in the home; it is removed."""
    seen = [
        can and (kind != "make" or path.exists()) for can, (kind, path) in zip(found, operations.values(), strict=True)
    ]
    for kind, path in operations.values():
        if kind == "make":
            path.unlink(missing_ok=True)
    return seen


def list_open(home: Path) -> list[str]:
    """Everything in the home on which others have a right."""
    found = (Path(folder, name) for folder, *names in os.walk(home) for name in (*names[0], *names[1]))
    return [str(path) for path in found if not path.is_symlink() and path.stat().st_mode & 0o077]


def draw_manifest(settings: Settings, folder: Path) -> Path:
    """A file that the command line makes below a shell that would let everyone read it."""
    picture = folder / "scribe.svg"
    command = f"umask 0; {SOULFORGE} manifest show scribe --picture {picture}"
    places = {"SOULFORGE_HOME": str(settings.home), "SOULFORGE_PORT_BASE": str(settings.port_base)}
    subprocess.run(["sh", "-c", command], env={**os.environ, **places}, capture_output=True, check=True)
    return picture


@pytest.mark.usefixtures("private")
async def test_the_table_of_files(settings: Settings, admin: Pool, client: Client, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can try as another account")
    home, announced = settings.home, list[str]()
    settings = configured(settings, tmp_path, harvest=SMALL)
    (home / "soulforge.toml").chmod(0o644)
    async with harvester(settings, announced):
        harvested = await harvest(settings, admin, client)
    trainer, bundle = Trainer(settings, admin, client, harvested), freeze_bundle(settings, tmp_path)
    operations = list_operations(settings, trainer, bundle)
    tries = tuple((operation, str(path)) for operation, path in operations.values())

    found = {"a job": list_made(operations, await trainer.probe(tries))}
    found["the owner"] = list_made(operations, probe_as(os.getuid(), tmp_path, tries))
    with opened(home.parent):
        found["another account"] = list_made(operations, probe_as(NOBODY, tmp_path, tries))
    with opened(home.parent, home):
        found["another account, the home opened"] = list_made(operations, probe_as(NOBODY, tmp_path, tries))

    for _, path in operations.values():
        if path.suffix == ".sock":  # in folders of their own, which is what protects them
            path.unlink(missing_ok=True)
    assert list_open(home) == []
    assert draw_manifest(settings, tmp_path).stat().st_mode & 0o777 == 0o600
    log = (settings.logs_dir / "harvester.log").read_text()
    assert " files and folders were open to other accounts of this machine, and are closed now" in log
    roles = ("the owner", "another account", "another account, the home opened", "a job")
    attempts = [Attempt(role, name, can) for role in roles for name, can in zip(operations, found[role], strict=True)]
    compare("files", "Files", ABOUT, attempts)
