"""The interface of the trainer job: `job.json`, and the files in the job's output directory."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.config.recipe import Recipe
from shared.jobs.start_limit import GpuJob
from shared.storage.base_model import Base

ADAPTER_DIR = "adapter"
CHECKPOINTS_DIR = "checkpoints"
IDENTITY_FILE = (
    "identity.json"  #: in a checkpoint; written last: it marks a complete one, and has the digest of its files
)
PREVIEWS_FILE = "trained-text.json"
LEFT_OUT_FILE = "left-out.jsonl"  #: one line per row of the manifest that was not trained: split, id, reason


class TrainerJob(GpuJob):
    """One training run. Inputs may be read-only; everything is written below `output`, a fresh directory.

    `manifest_dir` holds the shards of `train/` and, where there is one, `dev/`; `manifest_digest` is its `digest_tree`.
    `replay` holds answers of the base, made before; `replay_digest` is its `digest_file`.
    `resume_from` is the `checkpoints` directory of an earlier attempt.
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
    output: Path
    resume_from: Path | None = None
    seed: int | None = Field(None, ge=0, lt=2**31, description="Default: the recipe's.")

    @property
    def effective_seed(self) -> int:
        return self.recipe.seed if self.seed is None else self.seed
