"""Where the servers and the database are for each role, and that its socket belongs to one account alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli.connect import host_port
from deploy.services import service_url
from shared.config.settings import SOCKET_PATH_MAX, Settings, SettingsError


def settings(home: Path, **values: object) -> Settings:
    (home / "secrets" / "database").mkdir(parents=True)
    for role in ("bootstrap", "owner"):
        (home / "secrets" / "database" / role).write_text(f"{role}'s/@\n")
    return Settings.model_validate({"home": home, **values})


def test_each_role_has_its_name_and_its_password(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.database_url("owner") == f"postgresql://soulforge_owner:owner%27s%2F%40@/soulforge?host={tmp_path}/run"
    assert found.database_url("bootstrap").startswith("postgresql://soulforge:bootstrap%27s")
    with pytest.raises(SettingsError, match=r"no database password in .*/forge: run `soulforge up` once"):
        found.database_url("forge")


def test_another_server_is_used_as_bootstrap_by_its_url_and_by_the_others_with_their_own_names(tmp_path: Path) -> None:
    url = "postgresql://me:mine@h:1/d?sslmode=verify-full"
    found = settings(tmp_path, database=url)
    assert found.database_url("bootstrap") == url
    assert found.database_url("owner") == url.replace("me:mine", "soulforge_owner:owner%27s%2F%40")
    assert found.model_copy(update={"database_roles": "one"}).database_url("owner") == url


def test_the_socket_of_a_home_with_a_long_path_is_elsewhere_and_not_where_another_account_made_a_folder(
    tmp_path: Path,
) -> None:
    home = tmp_path / ("h" * SOCKET_PATH_MAX)
    found = settings(home)
    folder = found.database_socket_dir
    assert not folder.is_relative_to(home) and len(str(folder)) < SOCKET_PATH_MAX / 2
    folder.mkdir(mode=0o700)
    try:
        found.database_url("owner")
        assert found.engine_socket("rune").is_relative_to(found.gateway_control_socket.parent)
        folder.chmod(0o755)
        for use in (lambda: found.database_url("owner"), lambda: found.make_engine_dir("rune")):
            with pytest.raises(SettingsError, match="not a folder of this account alone"):
                use()
    finally:
        folder.rmdir()
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(SettingsError, match="not a folder of this account alone"):
            found.database_url("owner")
    finally:
        folder.unlink()


def test_the_folder_of_an_engines_socket_is_for_its_account_alone(tmp_path: Path) -> None:
    found = settings(tmp_path)

    folder = found.make_engine_dir("rune")

    assert found.make_engine_dir("rune") == folder == found.engine_socket("rune").parent
    made = (folder, folder.parent, folder.parent.parent)
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3
    assert folder.parent.parent == tmp_path / "run"


def test_urls_of_an_ipv6_address_have_it_in_brackets(tmp_path: Path) -> None:
    found = Settings(home=tmp_path, host="::1", port_base=7600)

    urls = (found.nats_url, found.phoenix_url, found.gateway_url, service_url(found, "registry"))

    assert [url.partition("://")[2] for url in urls] == ["[::1]:7600", "[::1]:7603", "[::1]:7605", "[::1]:7624"]
    assert host_port(found.gateway_url) == "[::1]:7605"
