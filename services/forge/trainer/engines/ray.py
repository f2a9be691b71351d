"""The TRL engine on several workers: Ray Train starts them, here or on the hosts of a Ray cluster, each with a share of every step.

Rows are rendered once, where the job runs; base and output must be seen at the same paths by every worker. A worker that
dies ends the job: the ritual's next attempt goes on from the last checkpoint, as after any other end.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import ray
import torch
from peft import PeftModel
from ray.train import RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from services.forge.job import TrainerJob
from services.forge.trainer.engines.port import Trained
from services.forge.trainer.engines.trl import TrlEngine
from services.forge.trainer.preferences import Pair
from services.forge.trainer.render import Example
from services.forge.trainer.stop import StopRequest
from shared.contracts.forge import PreferenceFigures
from shared.contracts.job import Progress
from shared.jobs.result_writer import InputError, Interrupted, ResultWriter

FOLDER = ".scratch/ray"  #: below the output
TASK, OUTCOME, STOP, ADAPTER = "task", "outcome", "stop", "adapter"
POLL_S = 0.2


@dataclass(frozen=True)
class Task:
    """What every worker is given."""

    job: TrainerJob
    train: Sequence[Example]
    dev: Sequence[Example]
    resume: Path | None


class RayEngine(TrlEngine):
    """Implements `Engine`; trains in workers."""

    distributions = (*TrlEngine.distributions, "ray")

    def __init__(self) -> None:
        super().__init__()
        self._job: TrainerJob | None = None

    @property
    def device(self) -> str:
        return f"{super().device}, {self._loaded.workers} workers"

    @property
    def _loaded(self) -> TrainerJob:
        assert self._job is not None
        return self._job

    @property
    def _folder(self) -> Path:
        return self._loaded.output / FOLDER

    def load(self, job: TrainerJob) -> None:
        super().load(job)
        self._job = job

    def train(
        self,
        job: TrainerJob,
        train: Sequence[Example],
        dev: Sequence[Example],
        resume: Path | None,
        writer: ResultWriter,
        stop: StopRequest,
    ) -> Trained:
        self._model = None  # every worker has one of its own
        self._folder.mkdir(parents=True, exist_ok=True)
        task = Task(job.model_copy(update={"recipe": job.recipe.shared_by(job.workers)}), train, dev, resume)
        (self._folder / TASK).write_bytes(pickle.dumps(task))
        with cluster(stop), passed_on(stop, self._folder / STOP):
            TorchTrainer(
                work,
                train_loop_config={"folder": str(self._folder)},
                torch_config=TorchConfig(backend="nccl" if torch.cuda.is_available() else "gloo"),
                scaling_config=ScalingConfig(num_workers=job.workers, use_gpu=torch.cuda.is_available()),
                run_config=RunConfig(name="run", storage_path=str(self._folder)),
            ).fit()
        outcome = pickle.loads((self._folder / OUTCOME).read_bytes())
        if isinstance(outcome, BaseException):
            raise outcome
        trained: Trained = outcome
        return trained

    def compare(self, pairs: Sequence[Pair]) -> PreferenceFigures:
        super().load(self._loaded)
        self._model = PeftModel.from_pretrained(self._model, str(self._folder / ADAPTER))
        return super().compare(pairs)

    def save(self, folder: Path, base_name: str) -> None:
        (self._folder / ADAPTER).replace(folder)


def work(config: dict[str, str]) -> None:
    """Train as one of the workers, in its process. The first one writes progress, checkpoints, adapter and outcome."""
    folder = Path(config["folder"])
    task: Task = pickle.loads((folder / TASK).read_bytes())
    first = get_context().get_world_rank() == 0
    writer = ResultWriter(task.job.output) if first else SilentWriter(task.job.output)
    engine = TrlEngine()
    engine.distributions = RayEngine.distributions
    outcome: Trained | InputError | Interrupted
    try:
        engine.load(task.job)
        outcome = engine.train(task.job, task.train, task.dev, task.resume, writer, SharedStop(folder / STOP))
        if first:
            engine.save(folder / ADAPTER, task.job.base.name)
    except (InputError, Interrupted) as error:
        outcome = error
    if first:
        (folder / OUTCOME).write_bytes(pickle.dumps(outcome))


class SilentWriter(ResultWriter):
    """The writer of the other workers, whose progress is the same."""

    def progress(self, progress: Progress) -> None:
        pass


class SharedStop(StopRequest):
    """A request that reached the job's own process: all workers find it made at the same moment, or none does."""

    def __init__(self, file: Path) -> None:
        self._file = file
        super().__init__()

    @property
    def made(self) -> bool:
        """Asked by every worker at the same places, since each answer is agreed on."""
        seen = torch.tensor(float(self._own or self._file.exists()))
        if torch.cuda.is_available():
            seen = seen.cuda()
        torch.distributed.all_reduce(seen, torch.distributed.ReduceOp.MAX)
        return bool(seen.item())

    @made.setter
    def made(self, own: bool) -> None:
        self._own = own


@contextmanager
def cluster(stop: StopRequest) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, else start one on this machine."""
    # Its processes are of the job's group and inherit this: a request to stop must reach the job alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ray.init(include_dashboard=False)
    stop.listen()  # Ray has put its own handler there, which ends the process
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def passed_on(stop: StopRequest, file: Path) -> Iterator[None]:
    """Make the file once a stop is requested: the workers are other processes, perhaps on other hosts."""
    over = Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if stop.made:
                file.touch()
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
