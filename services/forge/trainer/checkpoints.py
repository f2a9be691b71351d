"""Checkpoints from which a run may resume: complete, whole, and of the same manifest, recipe, replay and seed."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from services.forge.job import IDENTITY_FILE, TrainerJob
from shared.contracts.frozen import Frozen
from shared.jobs.result_writer import InputError
from shared.storage.artifacts import write_atomically
from shared.storage.digests import PREFIX as SHA256
from shared.storage.digests import digest_files
from shared.storage.untrusted import GIB, KIB, OutputError, digest_file, read_model

INCOMPLETE_FILE = "checkpoint-is-incomplete.txt"
PREFIX = "checkpoint-"
LARGEST_FILE = 64 * GIB
LARGEST_IDENTITY = 64 * KIB


class Identity(Frozen):
    """Which run a checkpoint is of, and the digest over that and all files of the checkpoint."""

    run: dict[str, Any]
    digest: str


def identity(job: TrainerJob) -> dict[str, Any]:
    """The values that identify a run: a checkpoint of other values is of another run."""
    return {
        "base": job.base.digest,
        "manifest": job.manifest_digest,
        "recipe": job.recipe.model_dump(mode="json"),
        "replay": job.replay_digest,
        "seed": job.effective_seed,
    }


def seal(checkpoint: Path, job: TrainerJob) -> None:
    """Mark a checkpoint as complete with the identity of its run; called after its last file."""
    run = identity(job)
    sealed = Identity(run=run, digest=_digest(checkpoint, run))
    write_atomically(checkpoint / IDENTITY_FILE, sealed.model_dump_json())


def newest(folder: Path, job: TrainerJob) -> Path | None:
    """The whole checkpoint with the most steps; None where there is none. One that was damaged is logged and left out.

    Transformers' own search takes the highest number even when that checkpoint is marked incomplete.
    Raises InputError when the checkpoint belongs to another run.
    """
    for entry in sorted((entry for entry in folder.glob(f"{PREFIX}*") if _is_complete(entry)), key=steps, reverse=True):
        try:
            run = _read_run(entry)
        except OutputError as error:
            print(f"{entry} is damaged and not resumed from: {error}", file=sys.stderr)
            continue
        differs = [name for name, value in identity(job).items() if run.get(name) != value]
        if differs:
            raise InputError(f"{entry} was made with another {' and '.join(differs)}: start again without resume_from")
        return entry
    return None


def steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _is_complete(entry: Path) -> bool:
    numbered = entry.name.removeprefix(PREFIX).isdecimal()
    return numbered and (entry / IDENTITY_FILE).is_file() and not (entry / INCOMPLETE_FILE).exists()


def _read_run(checkpoint: Path) -> dict[str, Any]:
    """The run that a checkpoint is of. Raises OutputError unless every file is as it was sealed."""
    sealed = read_model(checkpoint, IDENTITY_FILE, Identity, LARGEST_IDENTITY)
    if (found := _digest(checkpoint, sealed.run)) != sealed.digest:
        raise OutputError(f"its files have digest {found}, they were sealed with {sealed.digest}")
    return sealed.run


def _digest(checkpoint: Path, run: dict[str, Any]) -> str:
    """The digest over a checkpoint's files and the identity of its run. Raises OutputError."""
    entries = [entry for entry in checkpoint.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    names = {entry.relative_to(checkpoint).as_posix() for entry in entries} - {IDENTITY_FILE}
    files = {name: digest_file(checkpoint, name, LARGEST_FILE) for name in names}
    sealed = SHA256 + hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    return digest_files(files | {IDENTITY_FILE: sealed})
