"""The ways into the real PostgreSQL: its socket, and a password for each role that is made again where it is deleted."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.embedded import postgres
from deploy.roles import grant
from shared.config.settings import Settings
from shared.storage.postgres import MigrationError
from tests.support.authorization import connected
from tests.support.servers import Server, free_port_base


async def test_the_server_is_reached_by_its_socket_and_with_the_right_password_only(settings: Settings) -> None:
    async with connected(settings, "bootstrap") as connection:
        rules = await connection.fetch("SELECT type, auth_method, error FROM pg_hba_file_rules")
        listens = await connection.fetchval("SHOW listen_addresses")
    assert {tuple(rule) for rule in rules} == {("local", "scram-sha-256", None)} and listens == ""
    folder = settings.database_socket_dir
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://soulforge_owner:wrong@/soulforge?host={folder}")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match=r"no pg_hba.conf entry"):
        await asyncpg.connect(f"postgresql://nobody:x@/soulforge?host={folder}")
    other = urlsplit(settings.database_url("owner"))._replace(path="/postgres").geturl()
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match=r"no pg_hba.conf entry"):
        await asyncpg.connect(other)


async def test_a_deleted_password_is_made_anew_and_the_old_one_is_refused(settings: Settings) -> None:
    old = settings.database_url("publisher")
    settings.database_password_file("publisher").unlink()

    await grant(settings)

    async with connected(settings, "publisher"):
        pass
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(old)
    file = settings.database_password_file("publisher")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_the_password_of_bootstrap_is_renewed_too_and_a_long_home_has_its_socket_elsewhere(
    tmp_path: Path,
) -> None:
    home = tmp_path / ("h" * 90)
    home.mkdir()
    settings = Settings(home=home, port_base=free_port_base())
    assert not settings.database_socket_dir.is_relative_to(home)
    server = Server(postgres.command(settings), lambda: postgres.ready(settings), home / "log")
    old = ""
    for _ in range(2):
        postgres.initialise(settings)
        await server.start()
        try:
            async with connected(settings, "bootstrap"):
                pass
            if old:
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await asyncpg.connect(old)
        finally:
            server.stop()
        old = settings.database_url("bootstrap")
        settings.database_password_file("bootstrap").unlink()
    settings.database_socket_dir.rmdir()


async def test_a_role_that_may_not_create_roles_is_named_with_what_to_do_or_used_for_everything(
    settings: Settings, tmp_path: Path
) -> None:
    other = Settings(home=tmp_path, database=settings.database_url("owner"))
    with pytest.raises(
        MigrationError, match=r"run `ALTER ROLE soulforge_owner CREATEROLE` .*SOULFORGE_DATABASE_ROLES=one"
    ):
        await grant(other)
    alone = other.model_copy(update={"database_roles": "one"})
    await grant(alone)
    assert alone.database_url("forge") == settings.database_url("owner")
