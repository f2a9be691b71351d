"""Trainer jobs on a tiny base: in their own process, or on two workers of Ray Train, each job in its sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from services.forge.job import TrainerJob
from shared.config.settings import PROJECT
from shared.config.tables import JobsConfig, TrainingJobsConfig
from shared.contracts.forge import TrainingFigures
from shared.contracts.job import RESULT_FILE, JobResult
from shared.drivers.containers.port import ContainerInfo, ContainerSpec, ContainerState, Mount
from shared.drivers.containers.process import ProcessContainers
from shared.jobs.runner import STOP_GRACE_S, job_environment
from shared.storage.base_model import Base
from tests.support.model import MODEL, require_ray
from tests.support.tiny import tiny_base
from tests.support.training import RECIPE, finish, planned, progress, row, start, write_manifest

WORKERS, STEPS, EVERY = 2, 48, 8
VALUES = {"dropout": 0.0, "batch_size": 4, "micro_batch": 4, "epochs": 8, "replay": 0, "patience": 0}
LOCAL = RECIPE.model_copy(update=VALUES | {"checkpoint_steps": EVERY, "learning_rate": 5e-3})
WITHIN_S = 240


class Workers:
    """Trainer jobs on a tiny base, here or in a sandbox on Ray's workers."""

    def __init__(self, folder: Path) -> None:
        require_ray()
        self._folder, self._manifest = folder, folder / "manifest"
        self._digest = write_manifest(self._manifest, [row(n) for n in range(24)], [row(n) for n in range(50, 57)])
        self._base = Base(name="tiny", path=tiny_base(folder / "tiny", MODEL), digest="sha256:tiny")
        self._containers = ProcessContainers(folder / "containers")

    def job(self, name: str, **changes: object) -> TrainerJob:
        return planned(
            self._manifest, self._digest, self._folder / name, base=self._base, recipe=LOCAL, replay=None, replay_digest=None, **changes
        )  # fmt: skip

    def alone(self) -> TrainingFigures:
        """Train in one process."""
        job = self.job("alone")
        return TrainingFigures.model_validate(finish(job, start(job))[1].result)

    def on_ray(self, name: str, **changes: object) -> TrainerJob:
        return self.job(name, executor="ray", workers=WORKERS, **changes)

    async def start(self, job: TrainerJob) -> None:
        (job.output / "tmp").mkdir(parents=True)
        path = job.output.with_suffix(".json")
        path.write_text(job.model_dump_json())
        environment = JobsConfig(forge=TrainingJobsConfig(executor="ray", workers=WORKERS)).training("trl")
        read = (path, PROJECT, self._base.path, self._manifest, *environment.mounted, *filter(None, [job.resume_from]))
        await self._containers.start(
            ContainerSpec(
                name=job.output.name,
                command=(environment.python, "-m", "services.forge.trainer", str(path)),
                cwd=job.output,
                env=job_environment(job.output, PROJECT),
                mounts=(*(Mount(path=one) for one in read), Mount(path=job.output, read_only=False)),
                isolated=True,
                memory_bytes=8 * 1024**3,
            )
        )

    async def wait_for_step(self, job: TrainerJob, step: int) -> None:
        await self._until(lambda info: any(line.done >= step for line in progress(job) if line.phase == "train"), job)

    async def finish(self, job: TrainerJob) -> tuple[ContainerInfo, JobResult]:
        info = await self._until(lambda info: info.state is ContainerState.EXITED, job)
        assert (job.output / RESULT_FILE).is_file(), await self._containers.logs(job.output.name)
        return info, JobResult.model_validate_json((job.output / RESULT_FILE).read_text())

    async def stop(self, job: TrainerJob) -> None:
        await self._containers.stop(job.output.name, STOP_GRACE_S)

    async def _until(self, seen: Callable[[ContainerInfo], bool], job: TrainerJob) -> ContainerInfo:
        deadline = time.monotonic() + WITHIN_S
        while not ((info := await self._containers.inspect(job.output.name)) and seen(info)):
            assert time.monotonic() < deadline, await self._containers.logs(job.output.name)
            assert info and info.state is ContainerState.RUNNING, await self._containers.logs(job.output.name)
            await asyncio.sleep(0.05)
        return info


def kill_a_worker(job: TrainerJob) -> None:
    found = [process for process in psutil.process_iter() if _works_for(job, process)]
    assert len(found) == WORKERS
    found[0].kill()


def _works_for(job: TrainerJob, process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in "".join(process.cmdline()) and process.environ().get("HOME") == str(
            job.output / "tmp"
        )
    except psutil.Error:
        return False
