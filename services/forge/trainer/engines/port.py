"""The port of a training engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.forge.job import TrainerJob
from services.forge.replay.answers import Sampling
from services.forge.trainer.preferences import Pair
from services.forge.trainer.render import ChatTokenizer, Example
from services.forge.trainer.stop import StopRequest
from shared.contracts.forge import CheckpointFigures, PreferenceFigures
from shared.jobs.result_writer import ResultWriter


@dataclass(frozen=True)
class Trained:
    """Figures of a run. Losses are nats per trained token; `seen_tokens` counts all processed tokens without padding.

    `taken` is the step whose adapter is kept, `resumed_tokens` were seen by the earlier attempts, `ended_early` is why the run
    ended before its last step, `peak_bytes` the most memory that was in use, on several workers by the first of them.
    """

    steps: int
    epochs: float
    final_loss: float | None
    dev_loss_before: float | None
    dev_loss_after: float | None
    taken: int
    checkpoints: tuple[CheckpointFigures, ...]
    seen_tokens: int
    resumed_at: int
    resumed_tokens: int
    versions: dict[str, str]
    peak_bytes: int
    seconds: float
    energy_j: float | None
    ended_early: str


class Engine(Protocol):
    """Loads a base, then trains an adapter on it. Both methods block for long; neither reads the network."""

    @property
    def tokenizer(self) -> ChatTokenizer: ...

    @property
    def end_of_turn(self) -> frozenset[int]:
        """The tokens at which the served model stops generating."""

    @property
    def template(self) -> str:
        """The chat template of the tokenizer."""

    @property
    def device(self) -> str:
        """The device, with all that the arithmetic depends on: its name, and the threads on a CPU."""

    @property
    def context(self) -> int:
        """Context length of the base, in tokens."""

    def load(self, job: TrainerJob) -> None:
        """Load base and tokenizer. Raises InputError where the base cannot be loaded."""

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text, without special tokens."""

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, seed: int) -> list[list[int]]:
        """Continue each prompt with the base, up to and including its end of turn. The same arguments give the same tokens."""

    def train(
        self,
        job: TrainerJob,
        train: Sequence[Example],
        dev: Sequence[Example],
        resume: Path | None,
        writer: ResultWriter,
        stop: StopRequest,
    ) -> Trained:
        """Train, with checkpoints in the output directory. Raises Interrupted after a checkpoint when asked to stop."""

    def compare(self, pairs: Sequence[Pair]) -> PreferenceFigures:
        """Measure both answers of each pair with the base, and with the adapter that `train` made."""

    def save(self, folder: Path, base_name: str) -> None:
        """Write the adapter: its configuration and safetensors only."""
