"""The interface of the trainer job: `job.json`, and the files in the job's output directory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.config.recipe import Recipe
from shared.contracts.forge import EngineChoice, EngineName
from shared.jobs.start_limit import GpuJob
from shared.storage.base_model import Base

ADAPTER_DIR = "adapter"
CHECKPOINTS_DIR = "checkpoints"
IDENTITY_FILE = (
    "identity.json"  #: in a checkpoint; written last: it marks a complete one, and has the digest of its files
)
MEMORY_FILE = "memory.json"  #: what a run is estimated to take, written before its first step
PREVIEWS_FILE = "trained-text.json"
LEFT_OUT_FILE = "left-out.jsonl"  #: one line per row of the manifest that was not trained: split, id, reason


class TrainerJob(GpuJob):
    """One training run. Inputs may be read-only; everything is written below `output`, a fresh directory.

    `manifest_dir` holds the shards of `train/` and, where there is one, `dev/`; `manifest_digest` is its `digest_tree`.
    `replay` holds answers of the base, made before; `replay_digest` is its `digest_file`.
    `resume_from` is the `checkpoints` directory of an earlier attempt. The job runs in the environment of `engine`.
    `others` are the interpreters of further engines that it may hand over to, `kept` the folder of earlier pilots' results.
    """

    ritual: str
    attempt: int = Field(ge=1)
    fence: int
    base: Base
    manifest_dir: Path
    manifest_digest: str
    recipe: Recipe
    replay: Path | None = None
    replay_digest: str | None = None
    recipe_reason: str = Field("", description="Why the recipe has its values, where they were picked.")
    output: Path
    resume_from: Path | None = None
    engine: EngineName = "trl"
    executor: Literal["local", "ray"] = "local"
    workers: int = Field(1, ge=1, description="Of the executor; each takes an equal share of every step.")
    others: dict[EngineName, str] = Field(default_factory=dict)
    kept: Path | None = None
    memory: int | None = Field(
        None, gt=0, description="Most memory of the process in bytes; None: all of the device's."
    )
    checkpointing: bool = Field(False, description="Compute activations again instead of keeping them.")
    pilot: bool = Field(False, description="Measure the engine by some steps instead of training.")
    choice: EngineChoice | None = Field(None, description="Why this engine, where a choice was made.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Default: the recipe's.")

    @property
    def effective_seed(self) -> int:
        return self.recipe.seed if self.seed is None else self.seed


def kept_name(key: str) -> str:
    """The name of the file that keeps the pilots of a key."""
    return f"{hashlib.sha256(key.encode()).hexdigest()}.json"
