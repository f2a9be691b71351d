"""The folders of the Lab: listed by the names that the project's own code makes, moved into a trash folder, removed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from deploy.prune.decide import Folder, Kind
from services.forge.job import CHECKPOINTS_DIR
from services.forge.reconcile import ROLE
from shared.jobs.runner import OUTPUT
from shared.storage.artifacts import Artifacts

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class Listed:
    """What is in the Lab; `left` names what is left alone, with the reason."""

    folders: list[Folder] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def list_folders(artifacts: Artifacts) -> Listed:
    """List the folders that can be decided about; whatever else lies beside them is left alone."""
    found = Listed()
    places = {Kind.RUNS: artifacts.lab / "runs"}
    places |= {Kind.MANIFEST: artifacts.lab / "manifests", Kind.HOLDOUT: artifacts.lab / "holdouts"}
    for kind, place in places.items():
        if not place.resolve().is_relative_to(artifacts.home.resolve()):
            found.left.append(f"{place}: it leads out of the home")
            continue
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if not _is_folder(path) or not _is_ours(kind, path.name):
                found.left.append(f"{path}: no name that Soulforge gives")
                continue
            found.folders.append(_folder(kind, path.name, path))
            if kind is Kind.RUNS:
                found.folders += [_folder(Kind.CHECKPOINTS, path.name, inner) for inner in _checkpoints(path)]
    return found


def _checkpoints(run: Path) -> Iterator[Path]:
    for attempt in sorted(run.iterdir()):
        path = attempt / ROLE / OUTPUT / CHECKPOINTS_DIR
        # A job wrote what is in its output: a link leads anywhere.
        if attempt.name.isascii() and attempt.name.isdigit() and all(map(_is_folder, (attempt, path.parent, path))):
            yield path


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_ours(kind: Kind, name: str) -> bool:
    if kind is not Kind.RUNS:
        return DIGEST.fullmatch(name) is not None
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def _folder(kind: Kind, name: str, path: Path) -> Folder:
    return Folder(kind, name, path, datetime.fromtimestamp(path.stat().st_mtime, UTC))


def move_to_trash(artifacts: Artifacts, folder: Folder) -> Path:
    """Rename a folder into the trash, so that nobody sees half of it. Raises OSError."""
    target = artifacts.trash() / uuid4().hex
    folder.path.rename(target)
    return target


def empty_trash(artifacts: Artifacts) -> list[str]:
    """Remove what is in the trash, also what an interrupted pruner left; returns what could not be removed, with the reason."""
    failed: list[str] = []

    def note(_: object, path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
        # Another pruner may be faster.
        if not isinstance(error[1], FileNotFoundError):
            failed.append(f"{path}: {error[1]}")

    for path in artifacts.trash().iterdir():
        shutil.rmtree(path, onerror=note)
    return failed


def get_size(folder: Path) -> int:
    """The bytes of the files in a folder."""
    size = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                size += Path(path, name).lstat().st_size
            except FileNotFoundError:
                continue
    return size
