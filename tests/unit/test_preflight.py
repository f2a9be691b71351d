"""What is missing for the stack is said before anything is started, each with what to do."""

from __future__ import annotations

import ctypes
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.cli.main import run
from deploy.embedded import preflight
from deploy.embedded.preflight import GIB, PreflightError
from shared.config.settings import Settings
from tests.support.configurations import configured
from tests.support.isolation import WHY, let_isolate
from tests.support.servers import free_port_base


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    python = tmp_path / "python"
    python.touch()
    return configured(
        Settings(home=tmp_path / "home", port_base=free_port_base()), tmp_path, jobs={"python": str(python)}
    )


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with all that is needed, whatever this one has."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * GIB))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: name)
    let_isolate(monkeypatch)


async def faults(settings: Settings) -> str:
    with pytest.raises(PreflightError) as error:
        await preflight.check(settings)
    return str(error.value)


async def test_with_all_that_is_needed_nothing_is_said(settings: Settings) -> None:
    assert await preflight.check(settings) == []


async def test_a_busy_port_is_named_with_its_part(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind((settings.host, settings.port("phoenix")))
        other.listen()

        said = await faults(settings)

    assert f"port {settings.port('phoenix')} (phoenix)" in said
    assert "SOULFORGE_PORT_BASE" in said


async def test_a_port_of_our_own_is_not_busy(settings: Settings) -> None:
    with socket.socket() as ours:
        ours.bind((settings.host, settings.port("nats")))
        ours.listen()

        assert await preflight.check(settings, own_ports=["nats"]) == []


async def test_a_missing_library_is_named_with_the_package_that_has_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)

    assert "apt-get install libnuma1" in await faults(settings)


async def test_a_missing_compiler_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert "C compiler" in await faults(settings)


async def test_too_little_memory_and_too_little_disk_are_said_together(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=GIB))

    said = await faults(settings)

    assert "1.0 GiB of memory are available" in said
    assert "1.0 GiB are free on the disk" in said


async def test_a_missing_jobs_environment_is_said(settings: Settings, tmp_path: Path) -> None:
    bare = configured(settings, tmp_path, jobs={"python": str(tmp_path / "none" / "python")})

    assert "make setup" in await faults(bare)


async def test_a_declared_base_that_is_not_there_is_named_with_its_key(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "soulforge.toml").write_text(
        '[bases.mine]\npath = "mine"\n[anvils.anvil0]\n[runes.rune]\nbase = "mine"\n'
        '[covens.hearth]\nanvil = "anvil0"\nrunes = ["rune"]\n'
    )

    shown = await faults(settings)

    assert f"no base model in {tmp_path / 'mine'}" in shown and "bases.mine.path" in shown


async def test_where_jobs_cannot_be_isolated_nothing_is_started_and_both_ways_out_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_isolate(monkeypatch, WHY)

    shown = await faults(settings)

    assert WHY in shown and "allow_unisolated = true under [jobs]" in shown


def test_up_is_refused_before_anything_is_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let_isolate(monkeypatch, WHY)
    for name in ("home", "config", "port_base"):
        monkeypatch.setenv(f"SOULFORGE_{name.upper()}", str(getattr(settings, name)))

    assert run(["up"]) == 1

    assert WHY in capsys.readouterr().err
    assert not {"postgres", "nats"} & {entry.name for entry in settings.home.iterdir()}


async def test_unisolated_jobs_that_the_owner_allows_are_a_warning(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_isolate(monkeypatch, WHY)
    jobs = {"python": str(tmp_path / "python"), "allow_unisolated": True}

    (warning,) = await preflight.check(configured(settings, tmp_path, jobs=jobs))

    assert warning.ok and warning.text.startswith("jobs run UNISOLATED") and WHY in warning.text


async def test_the_permission_changes_nothing_where_jobs_can_be_isolated(settings: Settings, tmp_path: Path) -> None:
    jobs = {"python": str(tmp_path / "python"), "allow_unisolated": True}

    assert await preflight.check(configured(settings, tmp_path, jobs=jobs)) == []


async def test_an_engine_that_does_not_answer_is_a_fault(settings: Settings, tmp_path: Path) -> None:
    jobs = {"python": str(tmp_path / "python"), "driver": "docker", "image": "jobs"}
    away = {"host": f"unix://{tmp_path}/none.sock"}

    assert "none.sock does not answer" in await faults(configured(settings, tmp_path, jobs=jobs, docker=away))
