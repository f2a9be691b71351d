"""Checkpoints from which a run may resume: complete, whole, and of the same manifest, recipe, base and seed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field

from services.forge.job import IDENTITY_FILE, TrainerJob
from services.forge.trainer.curve import Log, best_step
from services.forge.trainer.render import Example
from shared.contracts.forge import EngineName
from shared.contracts.frozen import Frozen
from shared.jobs.result_writer import InputError
from shared.storage.artifacts import write_atomically
from shared.storage.digests import PREFIX as SHA256
from shared.storage.digests import digest_files
from shared.storage.untrusted import GIB, KIB, OutputError, digest_file, read_model

PREFIX = "checkpoint-"
STATE_FILE = "trainer_state.json"  # as transformers writes it
EXAMPLES = "examples"
KEPT = 2
LARGEST_FILE = 64 * GIB
LARGEST_IDENTITY = 64 * KIB
LARGEST_STATE = GIB

Run = dict[str, Any]


class Identity(Frozen):
    """Which run a checkpoint is of, and the digest over that and all files of the checkpoint."""

    run: Run
    digest: str


class _State(Frozen, extra="ignore"):
    """The part of the trainer's state that is read: its log."""

    log_history: tuple[dict[str, float], ...] = Field(())


def identity(job: TrainerJob, examples: str) -> Run:
    """The values that identify a run: a checkpoint of other values is of another run. How a step is split is none of them."""
    return {
        "engine": job.engine,
        "base": job.base.digest,
        "manifest": job.manifest_digest,
        "recipe": job.recipe.model_dump(mode="json", exclude={"micro_batch"}),
        "seed": job.effective_seed,
        "workers": job.workers,
        EXAMPLES: examples,
    }


def digest_examples(examples: Iterable[Example]) -> str:
    """`sha256:<hex>` of all that is trained of them, in order."""
    total = hashlib.sha256()
    for example in examples:
        for numbers in example.numbers:
            total.update(len(numbers).to_bytes(8) + array("i", numbers).tobytes())
    return SHA256 + total.hexdigest()


def seal(checkpoint: Path, run: Run) -> None:
    """Mark a checkpoint as complete with the identity of its run; called after its last file."""
    sealed = Identity(run=run, digest=_digest(checkpoint, run))
    write_atomically(checkpoint / IDENTITY_FILE, sealed.model_dump_json())


def rotate(folder: Path, log: Log) -> None:
    """Remove all checkpoints but the newest ones and the best one before each; call it after `seal`.

    A checkpoint's own dev loss is measured after its save: the best one that it knows is an earlier one."""
    newest = sorted((steps(entry) for entry in folder.glob(f"{PREFIX}*")), reverse=True)[:KEPT]
    kept = {*newest, *(best_step(entry for entry in log if entry["step"] < step) for step in newest)}
    for entry in folder.glob(f"{PREFIX}*"):
        if steps(entry) not in kept:
            shutil.rmtree(entry)


def engine_of(folder: Path) -> EngineName | None:
    """The engine of the newest whole checkpoint; None where there is none."""
    for entry in sorted((entry for entry in folder.glob(f"{PREFIX}*") if _is_complete(entry)), key=steps, reverse=True):
        with suppress(OutputError):
            engine: EngineName = _read_run(entry)["engine"]
            return engine
    return None


def bring(source: Path, target: Path, run: Run) -> Path | None:
    """Copy the checkpoint to resume from, with the best one that it knows of; None where none can be resumed from.

    Raises InputError when the newest one belongs to another run.
    """
    found = newest(source, run)
    if found is None:
        return None
    brought = {entry.name: target / f".{entry.name}" for entry in filter(None, (_best(found), found))}
    for name, copy in brought.items():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source / name, copy)
    for name, copy in brought.items():  # once all are here: a whole checkpoint hides those of earlier attempts
        shutil.rmtree(target / name, ignore_errors=True)
        copy.replace(target / name)
    return target / found.name


def newest(folder: Path, run: Run) -> Path | None:
    """The whole checkpoint with the most steps; None where there is none. One that was damaged is logged and left out.

    Transformers' own search takes the highest number even when that checkpoint is incomplete.
    Raises InputError when the checkpoint belongs to another run. Where only the rendered examples differ, the run starts
    afresh: part of them is generated, which need not be the same on every device.
    """
    for entry in sorted((entry for entry in folder.glob(f"{PREFIX}*") if _is_complete(entry)), key=steps, reverse=True):
        try:
            sealed = _read_run(entry)
            best = _best(entry)
            if best and best != entry:
                _read_run(best)
        except OutputError as error:
            print(f"{entry} is damaged and not resumed from: {error}", file=sys.stderr)
            continue
        differs = [name for name, value in run.items() if sealed.get(name) != value]
        if differs == [EXAMPLES]:
            print(f"{entry} was trained on other examples and is not resumed from", file=sys.stderr)
            return None
        if differs:
            raise InputError(f"{entry} was made with another {' and '.join(differs)}: start again without resume_from")
        return entry
    return None


def path(folder: Path, step: int) -> Path:
    return folder / f"{PREFIX}{step}"


def steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _best(checkpoint: Path) -> Path | None:
    """The earlier checkpoint of least dev loss, by the log in this one; None where it knows none. Raises OutputError."""
    if not (checkpoint / STATE_FILE).is_file():
        return None
    log = read_model(checkpoint, STATE_FILE, _State, LARGEST_STATE).log_history
    best = best_step(log)
    return path(checkpoint.parent, best) if best else None


def _is_complete(entry: Path) -> bool:
    numbered = entry.name.removeprefix(PREFIX).isdecimal()
    return numbered and (entry / IDENTITY_FILE).is_file()


def _read_run(checkpoint: Path) -> Run:
    """The run that a checkpoint is of. Raises OutputError unless every file is as it was sealed."""
    sealed = read_model(checkpoint, IDENTITY_FILE, Identity, LARGEST_IDENTITY)
    if (found := _digest(checkpoint, sealed.run)) != sealed.digest:
        raise OutputError(f"its files have digest {found}, they were sealed with {sealed.digest}")
    return sealed.run


def _digest(checkpoint: Path, run: Run) -> str:
    """The digest over a checkpoint's files and the identity of its run. Raises OutputError."""
    entries = [entry for entry in checkpoint.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    names = {entry.relative_to(checkpoint).as_posix() for entry in entries} - {IDENTITY_FILE}
    files = {name: digest_file(checkpoint, name, LARGEST_FILE) for name in names}
    sealed = SHA256 + hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    return digest_files(files | {IDENTITY_FILE: sealed})
