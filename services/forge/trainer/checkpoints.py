"""Checkpoints from which a run may resume: complete, and made from the same manifest with the same recipe and seed."""

from __future__ import annotations

import json
from pathlib import Path

from services.forge.job import IDENTITY_FILE, TrainerJob
from shared.jobs.result_writer import InputError
from shared.storage.artifacts import write_atomically

INCOMPLETE_FILE = "checkpoint-is-incomplete.txt"
PREFIX = "checkpoint-"


def identity(job: TrainerJob) -> dict[str, object]:
    """The values that identify a run: a checkpoint of other values is of another run."""
    return {
        "base": job.base.digest,
        "manifest": job.manifest_digest,
        "recipe": job.recipe.model_dump(mode="json"),
        "seed": job.effective_seed,
    }


def seal(checkpoint: Path, job: TrainerJob) -> None:
    """Mark a checkpoint as complete with the identity of its run; called after its last file."""
    write_atomically(checkpoint / IDENTITY_FILE, json.dumps(identity(job), sort_keys=True))


def newest(folder: Path, job: TrainerJob) -> Path | None:
    """The complete checkpoint with the most steps; None where there is none.

    Transformers' own search takes the highest number even when that checkpoint is marked incomplete.
    Raises InputError when the checkpoints belong to another run.
    """
    complete = sorted((entry for entry in folder.glob(f"{PREFIX}*") if _is_complete(entry)), key=steps)
    if not complete:
        return None
    found = json.loads((complete[-1] / IDENTITY_FILE).read_text(encoding="utf-8"))
    differs = [name for name, value in identity(job).items() if found.get(name) != value]
    if differs:
        raise InputError(
            f"{complete[-1]} was made with another {' and '.join(differs)}: start again without resume_from"
        )
    return complete[-1]


def steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _is_complete(entry: Path) -> bool:
    numbered = entry.name.removeprefix(PREFIX).isdigit()
    return numbered and (entry / IDENTITY_FILE).is_file() and not (entry / INCOMPLETE_FILE).exists()
