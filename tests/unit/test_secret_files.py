"""Secrets that a power cut or a slip of the hand left broken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.embedded import nats, postgres
from deploy.embedded.preflight import PreflightError
from deploy.secret_files import get_secret, make_password
from shared.config.settings import Settings


def test_an_empty_file_is_made_again_and_once(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for _ in range(50):
        file.write_text("")
        with ThreadPoolExecutor(8) as services:
            found = set(services.map(lambda _: get_secret(file, make_password), range(8)))
        assert len(found) == 1 and found != {""}
    assert list(tmp_path.iterdir()) == [file] and file.stat().st_mode & 0o777 == 0o600


def test_an_empty_password_of_bootstrap_is_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, renewed = Settings(home=tmp_path), list[Path]()
    monkeypatch.setattr(postgres, "_renew_password", lambda _, password: renewed.append(password))
    postgres.data_dir(settings).mkdir()
    password = settings.database_password_file("bootstrap")
    password.parent.mkdir(parents=True)
    password.touch()

    postgres.initialise(settings)

    assert renewed == [password]


@pytest.mark.parametrize("broken", [b"no seed\n", b"SU\xff\n"])
def test_a_seed_that_is_none_is_named_with_what_to_do(broken: bytes, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    seed = settings.bus_keys_dir / "publisher.nk"
    seed.parent.mkdir(parents=True)
    seed.write_bytes(broken)

    with pytest.raises(PreflightError, match=f"{seed} holds no key of NATS: delete it"):
        nats.initialise(settings)
