"""The embedded PostgreSQL after a power cut: a stale lock file does not stop it, a living server does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.embedded import postgres
from deploy.embedded.preflight import PreflightError
from tests.support.servers import House


async def test_a_lock_file_whose_pid_belongs_to_somebody_else_by_now_is_removed(house: House) -> None:
    lock = postgres.data_dir(house.settings) / "postmaster.pid"
    house.postgres.kill()
    # Not this process: PostgreSQL lets its own parent's pid pass.
    with subprocess.Popen(["sleep", "60"]) as somebody:  # noqa: ASYNC220 - a spawn is over at once
        lock.write_text("\n".join([str(somebody.pid), *lock.read_text().splitlines()[1:]]) + "\n")

        postgres.initialise(house.settings)
        await house.postgres.start()
        somebody.kill()

    assert await postgres.ready(house.settings)


async def test_a_living_server_on_the_same_directory_is_named(house: House) -> None:
    with pytest.raises(PreflightError, match="runs on"):
        postgres.initialise(house.settings)


async def test_a_living_server_that_was_started_by_another_path_keeps_its_lock_file(
    house: House, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.symlink_to(house.settings.home)
    lock = postgres.data_dir(house.settings) / "postmaster.pid"

    with pytest.raises(PreflightError, match="runs on"):
        postgres.initialise(house.settings.model_copy(update={"home": home}))

    assert lock.exists()
