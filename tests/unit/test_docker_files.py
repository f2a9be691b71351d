"""Sockets and archives of deploy/docker: only what it made itself is removed or replaced."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from deploy.docker.proxy import ListenError, listening
from shared.config.settings import PROJECT


def test_the_proxy_removes_neither_a_file_nor_a_socket_that_answers(tmp_path: Path) -> None:
    file, other = tmp_path / "notes.txt", tmp_path / "engine.sock"
    file.write_text("mine")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(other))
        engine.listen()
        with pytest.raises(ListenError, match=r"notes\.txt exists and is no socket"), listening(file, None):
            pass
        with pytest.raises(ListenError, match=r"another program listens on .*engine\.sock"), listening(other, None):
            pass
    assert file.read_text() == "mine" and other.is_socket()


def test_the_proxy_takes_the_place_of_its_own_stale_socket_and_removes_it_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "proxy.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    with listening(path, None):
        assert path.is_socket() and path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()

    with listening(path, None):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


def test_the_base_image_is_not_written_over_a_file(tmp_path: Path) -> None:
    archive = tmp_path / "base.tar"
    archive.write_text("mine")

    made = subprocess.run(
        ["/bin/sh", PROJECT / "deploy/docker/image.sh", archive], capture_output=True, text=True, check=False
    )

    assert made.returncode == 1 and f"{archive} exists: name a new file" in made.stderr
    assert archive.read_text() == "mine"
