"""Paths of files: the Lab (working files: manifests, holdouts, runs, banished) and the Crypt (durable files: bundles).

No other module knows paths, so that an object store can replace this one.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from uuid import UUID

from pydantic import ByteSize

BUNDLED_ADAPTER = "adapter"
PRUNING = "pruning of the Lab"  #: name of the database's lock that a harvest shares, and a pruner has for itself


class Artifacts:
    """Directories of one installation, below its home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lab = home / "lab"
        self.crypt = home / "crypt"

    def manifest(self, digest: str) -> Path:
        """A dataset manifest: all that the trainer may see."""
        return self.lab / "manifests" / _folder(digest)

    def holdout(self, digest: str) -> Path:
        """A sealed holdout: only the evaluator may see it."""
        return self.lab / "holdouts" / _folder(digest)

    def run(self, ritual: UUID, attempt: int, job: str) -> Path:
        """The directory of one attempt of one job; a retry gets a fresh one."""
        return self.lab / "runs" / str(ritual) / str(attempt) / job

    def runs(self, ritual: UUID) -> Path:
        return self.lab / "runs" / str(ritual)

    def base_scores(self, base: str) -> Path:
        """The base arm of the latest evaluation of this base model, kept for the next. Its folder exists."""
        folder = self.lab / "base_scores"
        make_folder(folder)
        return folder / f"{_folder(base)}.json"

    def replay_answers(self, key: str) -> Path:
        """A base's own answers, kept for every training on it. Its folder exists."""
        folder = self.lab / "replay"
        make_folder(folder)
        return folder / f"{_folder(key)}.jsonl"

    def replay_input(self, ritual: UUID) -> Path:
        """The base's answers that all attempts of a ritual train with."""
        return self.runs(ritual) / "replay.jsonl"

    def pilots(self) -> Path:
        """What pilots of the training engines measured, kept for the next run. It exists."""
        folder = self.lab / "pilots"
        make_folder(folder)
        return folder

    def trash(self) -> Path:
        """A directory on the same file system, for folders that are to be removed. Its folder exists."""
        path = self.lab / "trash"
        make_folder(path)
        return path

    def bundle(self, digest: str) -> Path:
        """A frozen adapter bundle, named by the digest of its adapter."""
        return self.crypt / "adapters" / _folder(digest)

    def bundled_adapter(self, digest: str) -> Path:
        """The PEFT directory of a bundle."""
        return self.bundle(digest) / BUNDLED_ADAPTER

    def scratch(self) -> Path:
        """A directory on the same file system, for files that are renamed into place once they are complete."""
        path = self.lab / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path


def lacking_space(home: Path, least: ByteSize) -> str | None:
    """What is missing where `home` is, in a sentence; None while at least that much of its disk is free."""
    free = ByteSize(shutil.disk_usage(home).free)
    if free >= least:
        return None
    return (
        f"{free.human_readable()} are free on the disk of {home}, {least.human_readable()} are needed (runtime.min_free): "
        "make room, and it goes on by itself"
    )


def publish(source: Path, target: Path) -> None:
    """Move a finished directory to its content-addressed path. An existing one has the same content and is kept.

    On return all of it is on the disk, so that a commit may name it.
    """
    make_folder(target.parent)
    sync_tree(source)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(source)
    # Also for an existing one: its publisher may have been killed before this.
    sync(target.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents so that they survive a power cut."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Flush the files of a folder to the disk, then the folders from the deepest up."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(path, name))
        sync(Path(path))


def sync(path: Path) -> None:
    """Flush a file or directory entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the whole new one, also after a power cut."""
    # One name per thread: two writers of one file may meet, and the later one wins.
    partial = path.with_name(f".{path.name}.{threading.get_native_id()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def _folder(digest: str) -> str:
    return digest.removeprefix("sha256:")
