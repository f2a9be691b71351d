"""A home: a folder with files that Soulforge did not make never becomes one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli.main import run
from deploy.embedded import stack
from deploy.home import MARK, HomeError, claim
from shared.config.settings import PROJECT, Settings
from tests.support.full_disk import small_disk


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder of the owner's, with the names that Soulforge would use."""
    folder = tmp_path / "checkout"
    for name in (
        "supervisor.json",
        "nats/nats.conf",
        "logs/up.log",
        "postgres/postmaster.pid",
        "lab/scratch/harvest-1",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["runes", "create"]])
def test_a_folder_of_the_owners_does_not_become_a_home(
    checkout: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(checkout)
    monkeypatch.setenv("SOULFORGE_HOME", str(checkout))
    monkeypatch.setenv("SOULFORGE_CONFIG", str(PROJECT / "examples/soulforge/podman.toml"))

    assert run(command) == 1

    assert f"{checkout} holds files that Soulforge did not make (lab, logs, nats, …)" in capsys.readouterr().err
    assert content(checkout) == before


def test_down_leaves_a_folder_of_the_owners_alone(checkout: Path) -> None:
    before, lines = content(checkout), list[str]()

    stack.stop(Settings(home=checkout), lines.append)

    assert content(checkout) == before
    assert lines == [f"nothing to stop: {checkout} is no home of Soulforge"]


def test_a_service_does_not_work_in_a_folder_of_the_owners(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy import bootstrap

    monkeypatch.setenv("SOULFORGE_HOME", str(checkout))
    monkeypatch.setattr("sys.argv", ["bootstrap", "harvester"])

    with pytest.raises(SystemExit, match="holds files that Soulforge did not make"):
        bootstrap.main()


def test_an_empty_folder_becomes_a_home_and_stays_one_whatever_is_put_there(tmp_path: Path) -> None:
    for name in ("soulforge.toml", "lost+found"):
        (tmp_path / name).touch()

    claim(tmp_path)
    (tmp_path / "notes.txt").touch()
    claim(tmp_path)

    assert (tmp_path / MARK).is_file()


def test_a_home_below_a_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HomeError, match=f"{tmp_path / 'file'} cannot be a home"):
        claim(tmp_path / "file")


def test_services_that_start_at_once_on_a_new_home_do_not_take_its_files_for_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_first(folder: Path) -> Iterator[Path]:
        monkeypatch.undo()
        claim(folder)
        (folder / "lab").mkdir()
        return folder.iterdir()

    monkeypatch.setattr(Path, "iterdir", another_first)
    claim(tmp_path)

    assert {entry.name for entry in tmp_path.iterdir()} == {MARK, "lab"}


def test_a_home_that_cannot_be_written_is_an_error_with_its_path(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)

        with pytest.raises(
            HomeError, match=f"{disk.folder} cannot be a home: Read-only file system; set SOULFORGE_HOME"
        ):
            claim(disk.folder)
