"""Durable artefacts: on the disk, files and folders, before anything names them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.storage.artifacts import Artifacts, make_folder, publish, write_atomically
from tests.support.adapters import save_adapter
from tests.support.bundles import frozen
from tests.support.probes import probe


class Calls(list[tuple[str, Path]]):
    """What reached the disk, in order: ("sync", path) and ("rename", target)."""

    def of(self, kind: str) -> list[Path]:
        return [path for name, path in self if name == kind]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Records fsync and renames, and lets them through."""
    calls, fsync = Calls(), os.fsync

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def renamed(real: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def rename(source: Path, target: Path) -> None:
            real(source, target)
            calls.append(("rename", target))

        return rename

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed(os.rename))
    monkeypatch.setattr(os, "replace", renamed(os.replace))
    return calls


def tree(folder: Path) -> Path:
    for name in ("manifest.json", "train/00000.jsonl", "train/deep/deeper.jsonl", "pairs/00000.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def assert_durable(calls: Calls, source: Path, target: Path) -> None:
    """Every file and folder was synced before the move, contents before the folder that lists them; the parent after."""
    moved = calls.index(("rename", target))
    before = [path for kind, path in calls[:moved] if kind == "sync"]
    for path in target.rglob("*"):
        here = source / path.relative_to(target)
        assert here in before
        assert before.index(here) < len(before) - 1 - before[::-1].index(here.parent), here
    assert source in before
    assert ("sync", target.parent) in calls[moved:]


def test_a_published_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: Calls) -> None:
    source, target = tree(tmp_path / "scratch"), tmp_path / "lab" / "manifests" / "ab12"

    publish(source, target)

    assert_durable(calls, source, target)
    assert calls.of("sync")[:2] == [tmp_path, tmp_path / "lab"]
    assert (target / "train/deep/deeper.jsonl").read_text() == "train/deep/deeper.jsonl"


def test_the_folders_above_are_on_the_disk_too(tmp_path: Path, calls: Calls) -> None:
    make_folder(tmp_path / "lab" / "manifests")
    make_folder(tmp_path / "lab" / "manifests")

    assert calls.of("sync") == [tmp_path, tmp_path / "lab"]


def test_a_folder_that_is_there_is_kept_and_its_name_is_on_the_disk(tmp_path: Path, calls: Calls) -> None:
    source, target = tree(tmp_path / "scratch"), tree(tmp_path / "target")

    publish(source, target)

    assert calls[-1] == ("sync", tmp_path)
    assert not source.exists() and (target / "manifest.json").exists()


def test_a_folder_that_cannot_be_moved_for_another_reason_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tree(tmp_path / "source"), tree(tmp_path / "target")

    def rename(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="No space left"):
        publish(source, target)

    assert (source / "manifest.json").exists()


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(tmp_path: Path, calls: Calls) -> None:
    file = tmp_path / "scores.json"

    write_atomically(file, "1")

    [partial, folder] = calls.of("sync")
    assert partial.parent == folder == tmp_path and partial != file
    assert [kind for kind, _ in calls] == ["sync", "rename", "sync"]


def test_base_scores_have_a_folder_that_is_on_the_disk(tmp_path: Path, calls: Calls) -> None:
    file = Artifacts(tmp_path).base_scores("sha256:ab")

    assert file.parent.is_dir() and calls.of("sync") == [tmp_path, tmp_path / "lab"]


def test_a_bundle_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: Calls) -> None:
    artifacts, adapter = Artifacts(tmp_path), save_adapter(tmp_path / "adapter", value=0.1)
    probes = (probe("p"),)

    bundle = frozen(artifacts, adapter, probes)

    [moved] = calls.of("rename")
    assert moved == bundle
    scratch = next(path for path in calls.of("sync") if path.parent == artifacts.scratch())
    assert_durable(calls, scratch, bundle)

    calls.clear()
    assert frozen(artifacts, adapter, probes) == bundle
    assert calls == [("sync", bundle.parent)]
