"""A home: a folder with files that Soulforge did not make never becomes one."""

from __future__ import annotations

import os
import shutil
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


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["runes", "create"], ["migrate"]])
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


@pytest.mark.parametrize("arguments", [["harvester"], []])
def test_a_service_does_not_work_in_a_folder_of_the_owners(
    checkout: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy import bootstrap

    monkeypatch.setenv("SOULFORGE_HOME", str(checkout))
    monkeypatch.setattr("sys.argv", ["bootstrap", *arguments])

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


def open_home(home: Path) -> None:
    """A home as a process with a wide umask left it."""
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / MARK).touch(0o600)
    (home / "lab" / "runs").mkdir(parents=True)
    (home / "lab" / "runs" / "sealed.jsonl").write_text("answers")
    for path, mode in (("lab", 0o775), ("lab/runs", 0o700), ("lab/runs/sealed.jsonl", 0o644)):
        (home / path).chmod(mode)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_an_open_home_is_closed_to_other_accounts_and_counted_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    open_home(home)

    line = claim(home)

    assert line == f"{home}: 3 files and folders were open to other accounts of this machine, and are closed now"
    found = {path: mode(home / path) for path in ("", "lab", "lab/runs", "lab/runs/sealed.jsonl")}
    assert found == {"": 0o700, "lab": 0o700, "lab/runs": 0o700, "lab/runs/sealed.jsonl": 0o600}
    assert claim(home) is None


def test_what_was_given_to_the_group_of_jobs_stays_theirs(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give files away")
    home = tmp_path / "home"
    open_home(home)
    given = home / "lab" / "runs" / "sealed.jsonl"
    os.chown(given, -1, 65000)
    given.chmod(0o644)

    claim(home)

    assert mode(given) == 0o640


def test_closing_a_home_follows_no_link(tmp_path: Path) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    open_home(home)
    (models / "base").mkdir(parents=True)
    (models / "weights").touch()
    for path in (models, models / "base", models / "weights"):
        path.chmod(0o755)
    (home / "models").symlink_to(models)
    (home / "lab" / "weights").symlink_to(models / "weights")

    claim(home)

    assert {mode(path) for path in (models, models / "base", models / "weights")} == {0o755}


def test_what_is_mounted_in_a_home_is_not_touched(tmp_path: Path) -> None:
    open_home(tmp_path / "home")
    with small_disk(tmp_path / "home" / "models") as disk:
        disk.folder.chmod(0o755)

        claim(tmp_path / "home")

        assert mode(disk.folder) == 0o755


def test_a_home_that_is_reached_by_a_link_is_closed(tmp_path: Path) -> None:
    open_home(tmp_path / "disk")
    (tmp_path / "home").symlink_to(tmp_path / "disk")

    claim(tmp_path / "home")

    assert mode(tmp_path / "disk") == 0o700 and mode(tmp_path / "disk" / "lab") == 0o700


def test_folders_of_any_depth_do_not_stop_a_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    open_home(home)
    shutil.rmtree(home / "lab")
    held = os.open(home, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deeper", 0o755, dir_fd=held)
        os.chmod("deeper", 0o755, dir_fd=held)
        below = os.open("deeper", os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = below
    os.close(held)

    try:
        assert "files and folders were open" in (claim(home) or "")
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)
