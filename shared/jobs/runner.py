"""Jobs: one container per attempt; a restarted service finds its job again.

The container's name is the key: no such container means "start it", an exited one means "read the result".
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from shared.config.load import find
from shared.contracts.intent import RitualProgress
from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult, Progress
from shared.contracts.text import clean
from shared.drivers.containers.open import open_containers
from shared.drivers.containers.port import ContainerError, ContainerInfo, ContainerSpec, ContainerState, Mount
from shared.jobs.isolation import get_isolation
from shared.jobs.start_limit import boot_time
from shared.ritual import lease
from shared.runtime.metrics import show_progress
from shared.runtime.presence import Isolation
from shared.storage.artifacts import Artifacts, sync, write_atomically
from shared.storage.untrusted import KIB, MissingOutput, OutputError, parse_model, read_model, read_tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from shared.config.tables import Environment
    from shared.drivers.containers.port import Containers
    from shared.jobs.start_limit import GpuJob
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()

STOP_GRACE_S = 30.0
JOB_FILE = "job.json"
OUTPUT = "out"
LOG_TAIL = 12
KEPT_LOG = 2000
LARGEST_RESULT = 256 * KIB  # most of it goes into a fact, and a message is at most 1 MiB
LONGEST_REASON = 4000
RECENT_PROGRESS = 64 * KIB


@dataclass(frozen=True)
class JobKind:
    """A kind of job: its role, its command, and its limits."""

    role: str
    command: tuple[str, ...]
    memory_bytes: int
    time_limit_s: float
    stalled_after_s: float = inf  #: without a line of progress


@dataclass(frozen=True)
class JobPlan:
    """The plan of one attempt's job: its parameters (`values`, written as job.json), the inputs that it may read, and
    the environment of its interpreter, where that is not the one of [jobs]."""

    values: GpuJob
    inputs: tuple[Path, ...]
    environment: Environment | None = None


@dataclass(frozen=True)
class Seen:
    """The progress file of a running job as it was last seen to change, and when."""

    stamp: tuple[int, int] | None
    at: float


@dataclass(frozen=True)
class Finished:
    """A job that ended: its result, its output directory, and the isolation and limits that were in force."""

    result: JobResult
    output: Path
    isolation: tuple[str, ...]


def job_containers(context: ServiceContext) -> Containers:
    """Open the container driver that is configured for jobs."""
    return open_containers(context.settings, context.configuration.jobs.driver, context.configuration.docker)


class Jobs:
    """Starts, follows and ends the jobs of one service."""

    def __init__(
        self, context: ServiceContext, containers: Containers, kind: JobKind, seen: dict[str, Seen] | None = None
    ) -> None:
        """`seen` is the progress of running jobs; it is kept from pass to pass."""
        self.context = context
        self.containers = containers
        self.kind = kind
        self.seen = {} if seen is None else seen
        self.artifacts = Artifacts(context.settings.home)

    def name(self, ritual: UUID, attempt: int) -> str:
        return f"{self.kind.role}-{ritual}-{attempt}"

    async def follow(self, ritual: Ritual, fence: int, plan: Callable[[Path], JobPlan]) -> Finished | None:
        """Start the job of this attempt, or publish its progress; returns its end once it ended, None before."""
        name = self.name(ritual.id, ritual.attempt)
        folder = self.artifacts.run(ritual.id, ritual.attempt, self.kind.role)
        info = await self.containers.inspect(name)
        if info is None:
            await self._start(ritual, fence, folder, plan)
            return None
        output, isolation = folder / OUTPUT, (*info.isolation, *info.limits)
        if info.state is ContainerState.EXITED:
            return Finished(await self._result(info, output), output, isolation)
        if self._stalled(name, output):
            await self.containers.kill(name)
            return Finished(self._no_progress(), output, isolation)
        await self._publish_progress(ritual, output)
        return None

    async def stop(self, ritual: Ritual) -> None:
        """End the job of this attempt, if there is one: SIGTERM, time to save a checkpoint, SIGKILL."""
        await self.containers.stop(self.name(ritual.id, ritual.attempt), STOP_GRACE_S)

    async def forget(self, ritual: Ritual) -> None:
        """Save the job's log beside its output and remove its container; call it once its end is recorded."""
        name = self.name(ritual.id, ritual.attempt)
        self.seen.pop(name, None)
        if await self.containers.inspect(name):
            folder = self.artifacts.run(ritual.id, ritual.attempt, self.kind.role)
            (folder / "log.txt").write_text(await self.containers.logs(name, KEPT_LOG))
            await self.containers.remove(name)

    async def _start(self, ritual: Ritual, fence: int, folder: Path, plan: Callable[[Path], JobPlan]) -> None:
        jobs = await get_isolation(self.containers, self.context.configuration.jobs)
        if jobs.isolation is Isolation.REFUSED:
            raise ContainerError(jobs.why)
        asked_at = boot_time()
        left_s = await lease.get_seconds_left(self.context.pool, ritual.id, fence)
        if left_s is None:
            return
        planned = _write_job(folder, plan, asked_at + left_s)
        spec = self._spec(ritual, fence, folder, planned)
        await self.containers.start(spec.model_copy(update={"isolated": jobs.isolation is Isolation.ISOLATED}))
        if await self._ended_unless_leased(ritual, fence):
            return
        started = log.bind(job=self.kind.role, ritual=str(ritual.id), attempt=ritual.attempt, fence=fence)
        started.info("job started")
        if jobs.isolation is Isolation.UNISOLATED:
            started.warning("the job is not isolated, as jobs.allow_unisolated permits", why=jobs.why)

    async def _ended_unless_leased(self, ritual: Ritual, fence: int) -> bool:
        """End the job unless its lease is proven live: this process may have been stalled for longer than the lease."""
        name, left_s = self.name(ritual.id, ritual.attempt), None
        try:
            left_s = await lease.get_seconds_left(self.context.pool, ritual.id, fence)
        finally:
            if left_s is None:
                log.warning("job ended: its lease was lost while it started", container=name, fence=fence)
                await self.containers.kill(name)
                await self.containers.remove(name)
        return left_s is None

    def _spec(self, ritual: Ritual, fence: int, folder: Path, planned: JobPlan) -> ContainerSpec:
        settings, jobs = self.context.settings, self.context.configuration.jobs
        output, job_file = folder / OUTPUT, folder / JOB_FILE
        # Its own code and interpreter are named too: they may lie below a place that is hidden from it.
        environment = planned.environment or jobs.environment()
        readable = (job_file, settings.project, *environment.mounted, *planned.inputs)
        return ContainerSpec(
            name=self.name(ritual.id, ritual.attempt),
            command=(environment.python, *self.kind.command, str(job_file)),
            cwd=output,
            env=job_environment(output, settings.project),
            labels={
                "role": self.kind.role,
                "anvil": self.context.configuration.forge,
                "ritual": str(ritual.id),
                "fence": str(fence),
            },
            mounts=(*(Mount(path=path) for path in readable), Mount(path=output, read_only=False)),
            # The configuration may hold passwords, and lie beside the code.
            hidden=(settings.home, *filter(None, (find(settings),))),
            image=environment.image,
            devices=self._devices(),
            isolated=True,
            memory_bytes=self.kind.memory_bytes,
            time_limit_s=self.kind.time_limit_s,
        )

    def _devices(self) -> tuple[int, ...]:
        """The GPUs of the anvil that training uses."""
        anvil = self.context.configuration.anvils[self.context.configuration.forge]
        return anvil.devices if anvil.accelerator == "nvml" else ()

    async def _publish_progress(self, ritual: Ritual, output: Path) -> None:
        if (progress := last_progress(output)) is None:
            return
        show_progress(self.kind.role, progress)
        message = RitualProgress(ritual=ritual.id, persona=ritual.persona, job=self.kind.role, **progress.model_dump())
        await self.context.nats.publish(message.subject, message.model_dump_json().encode())

    def _stalled(self, name: str, output: Path) -> bool:
        """Whether the progress file has not changed for too long, by a clock that nobody sets."""
        stamp = None
        with suppress(OSError):
            found = (output / PROGRESS_FILE).lstat()
            stamp = (found.st_mtime_ns, found.st_size)
        if name not in self.seen or self.seen[name].stamp != stamp:
            self.seen[name] = Seen(stamp, monotonic())
        return monotonic() - self.seen[name].at > self.kind.stalled_after_s

    def _no_progress(self) -> JobResult:
        minutes = f"{self.kind.stalled_after_s / 60:g} minutes"
        return JobResult(ok=False, error=f"the {self.kind.role} made no progress for {minutes} and was ended")

    async def _result(self, info: ContainerInfo, output: Path) -> JobResult:
        try:
            result = read_model(output, RESULT_FILE, JobResult, LARGEST_RESULT)
            return result.model_copy(update={"error": result.error and result.error[:LONGEST_REASON]})
        except MissingOutput:
            tail = clean(await self.containers.logs(info.name, LOG_TAIL))[-LONGEST_REASON:]
            ended = f"went over its {info.limit} limit" if info.limit else f"exited with {info.exit_code}"
            reason = f"the {self.kind.role} {ended} and left no result; the end of its log:\n{tail}"
            return JobResult(ok=False, error=reason, out_of_memory=info.limit == "memory")
        except OutputError as error:
            return JobResult(ok=False, error=f"the {self.kind.role} left a result that cannot be used: {error}")


def _write_job(folder: Path, plan: Callable[[Path], JobPlan], start_before: float) -> JobPlan:
    """Make the job's folder with its job.json. Without a container nothing ever ran there: what it holds is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    output = folder / OUTPUT
    (output / "tmp").mkdir(parents=True)
    planned = plan(output)
    values = planned.values.model_copy(update={"start_before": start_before})
    write_atomically(folder / JOB_FILE, values.model_dump_json(indent=2))
    sync(folder)
    return planned


def job_environment(output: Path, project: Path) -> dict[str, str]:
    """The whole environment of a job: nothing is inherited from the service."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(output / "tmp"),
        "TMPDIR": str(output / "tmp"),
        "PYTHONPATH": str(project),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that spin while they wait slow down a shared machine.
        "OMP_WAIT_POLICY": "PASSIVE",
        "LANG": "C.UTF-8",
    }


def last_progress(output: Path) -> Progress | None:
    """The last complete line of a job's progress; None when there is none that can be read."""
    try:
        lines = read_tail(output, PROGRESS_FILE, RECENT_PROGRESS).splitlines()
    except OutputError:
        return None
    for line in reversed(lines):
        with suppress(OutputError):
            return parse_model(line, Progress, PROGRESS_FILE)
    return None
