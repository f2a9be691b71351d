"""A disk that fails or writes short, at every call in turn: a durable file is the old one or the whole new one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.registry.bundle import BundleError, check
from shared.storage.artifacts import Artifacts, publish, write_atomically
from shared.storage.digests import digest_tree
from tests.support.adapters import save_adapter
from tests.support.bundles import frozen
from tests.support.probes import probe

CALLS = ("fsync", "rename", "replace", "mkdir", "chmod")
FAULTS = (errno.EIO, errno.ENOSPC)
OLD, NEW = "old " * 5000, "new " * 5000


class Disk:
    """Counts the calls that change the disk; the one numbered `fails` ends in an error, and writes may be short."""

    def __init__(self) -> None:
        self.made = 0
        self.fails: int | None = None
        self.error = errno.EIO
        self.short = False

    def call(self) -> None:
        self.made += 1
        if self.made == self.fails:
            raise OSError(self.error, os.strerror(self.error))

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.call()
            return real(*given, **named)

        return call

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *given: Any, **named: Any) -> Any:
        if "w" not in mode:
            return OPEN(file, mode, buffering, *given, **named)
        buffered = io.BufferedWriter(_Raw(self, file))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8", newline="")


class _Raw(io.FileIO):
    """An unbuffered file on the disk: every `write` is one call of the system."""

    def __init__(self, disk: Disk, file: Any) -> None:
        super().__init__(file, "w")
        self._disk = disk

    def write(self, data: Any) -> int:
        self._disk.call()
        view = memoryview(data)
        return super().write(view[: max(1, len(view) // 3)] if self._disk.short else view) or 0


OPEN = io.open


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    with monkeypatch.context() as patched:
        patched.setattr(io, "open", disk.open)
        for name in CALLS:
            patched.setattr(os, name, disk.counted(getattr(os, name)))
        yield disk


@dataclass(frozen=True)
class Writer:
    """One way of writing something durable, into a folder, and what is there: "old", "new", or what is broken."""

    prepare: Callable[[Path], None]
    write: Callable[[Path], object]
    read: Callable[[Path], str]


def _old_file(folder: Path) -> None:
    (folder / "scores.json").write_text(OLD)


def _read_file(folder: Path) -> str:
    return {OLD: "old", NEW: "new"}.get((folder / "scores.json").read_text(), "broken")


def _tree(folder: Path) -> None:
    for name in ("manifest.json", "train/00000.jsonl"):
        (folder / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "made" / name).write_text(NEW)


def _publish(folder: Path) -> None:
    if not (folder / "made").exists():
        _tree(folder)
    publish(folder / "made", folder / "lab" / "manifests" / "ab")


def _read_tree(folder: Path) -> str:
    found = folder / "lab" / "manifests" / "ab"
    if not found.exists():
        return "old"
    names = {path.relative_to(found).as_posix(): path.read_text() for path in found.rglob("*") if path.is_file()}
    return "new" if names == {"manifest.json": NEW, "train/00000.jsonl": NEW} else "broken"


def _adapter(folder: Path) -> None:
    save_adapter(folder / "adapter", value=0.1)


def _freeze(folder: Path) -> Path:
    return frozen(Artifacts(folder), folder / "adapter", (probe("p"),))


def _read_bundle(folder: Path) -> str:
    digest = digest_tree(folder / "adapter")
    bundle = Artifacts(folder).bundle(digest)
    if not bundle.exists():
        return "old"
    try:
        check(bundle, digest)
    except BundleError:
        return "broken"
    return "new"


WRITERS = {
    "a file": Writer(_old_file, lambda folder: write_atomically(folder / "scores.json", NEW), _read_file),
    "a manifest": Writer(_tree, _publish, _read_tree),
    "a bundle": Writer(_adapter, _freeze, _read_bundle),
}


@pytest.mark.parametrize("error", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_call_that_fails_leaves_the_old_or_the_whole_new_and_a_repetition_ends_it(
    tmp_path: Path, disk: Disk, writer: Writer, error: int
) -> None:
    raised = 0
    calls = _count_calls(tmp_path / "counted", disk, writer)
    for number in range(1, calls + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        writer.prepare(folder)

        disk.made, disk.fails, disk.error = 0, number, error
        met = _met(partial(writer.write, folder))
        disk.fails = None

        if met:
            raised += 1
            assert met.errno == error
            assert writer.read(folder) in ("old", "new"), f"call {number}"
            writer.write(folder)
        assert writer.read(folder) == "new", f"call {number}"
    assert raised >= calls - 2  # but for folders that were there already


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_short_writes_lose_nothing(tmp_path: Path, disk: Disk, writer: Writer) -> None:
    whole = _count_calls(tmp_path / "counted", disk, writer)
    folder = tmp_path / "short"
    folder.mkdir()
    writer.prepare(folder)

    disk.made, disk.short = 0, True
    writer.write(folder)

    assert writer.read(folder) == "new"
    assert disk.made > whole or writer is WRITERS["a manifest"]  # which is moved, not written


def _met(write: Callable[[], object]) -> OSError | None:
    try:
        write()
    except OSError as error:
        return error
    return None


def _count_calls(folder: Path, disk: Disk, writer: Writer) -> int:
    folder.mkdir()
    writer.prepare(folder)
    disk.made = 0
    writer.write(folder)
    assert disk.made >= 3
    return disk.made
