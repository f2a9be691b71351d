"""`soulforge doctor`: what it checks beyond the checks before a start, and its exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from deploy.cli.main import run
from deploy.embedded import doctor
from deploy.embedded.preflight import Finding
from shared.config.settings import Settings
from shared.drivers.accelerators.port import AcceleratorError
from tests.support.configurations import configured
from tests.support.isolation import WHY, let_isolate
from tests.support.servers import free_port_base


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home on a machine whose jobs can be isolated."""
    let_isolate(monkeypatch)
    base = Settings(home=tmp_path / "home", port_base=free_port_base())
    return configured(base, tmp_path, jobs={"python": "/usr/bin/env"})


async def found(settings: Settings, part: str) -> Finding:
    return next(finding for finding in await doctor.diagnose(settings) if finding.part == part)


async def test_a_home_that_does_not_exist_yet_is_examined_and_not_made(settings: Settings) -> None:
    assert (await found(settings, "secrets")).ok and (await found(settings, "disk")).text
    assert not settings.home.exists()


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "ok"), [(0o700, 0o600, True), (0o755, 0o600, False), (0o700, 0o640, False)]
)
async def test_a_secret_that_others_may_read_is_named(
    settings: Settings, folder_mode: int, file_mode: int, ok: bool
) -> None:
    secret = settings.home / "secrets" / "database" / "owner"
    secret.parent.mkdir(parents=True)
    secret.write_text("geheim")
    for folder in (secret.parent, secret.parent.parent):
        folder.chmod(folder_mode)
    secret.chmod(file_mode)

    finding = await found(settings, "secrets")

    assert finding.ok is ok and "geheim" not in finding.text
    assert ok or f"chmod -R go= {settings.home}/secrets" in finding.text


async def test_a_gpu_is_looked_for_only_where_one_is_configured(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise AcceleratorError("the driver is missing")

    monkeypatch.setattr(doctor, "load_nvml", missing)
    assert "GPU driver" not in {finding.part for finding in await doctor.diagnose(settings)}
    anvils = {"anvil0": {"accelerator": "nvml", "devices": [0]}}
    coven = {"anvil": "anvil0", "runes": ["rune"]}
    gpu = configured(settings, tmp_path, anvils=anvils, runes={"rune": {"order": 0}}, covens={"hearth": coven})
    assert await found(gpu, "GPU driver") == Finding("GPU driver", False, "the driver is missing")


async def test_what_a_running_stack_has_taken_is_not_asked_for_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as phoenix:
        phoenix.bind((settings.host, settings.port("phoenix")))
        phoenix.listen()
        assert not (await found(settings, "ports")).ok

        settings.home.mkdir()
        monkeypatch.setattr(doctor, "read_living", lambda home: home)
        assert not {"ports", "memory"} & {finding.part for finding in await doctor.diagnose(settings)}


@pytest.mark.parametrize("why", [None, "install bubblewrap"])
def test_the_exit_code_shows_whether_something_is_missing(
    why: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [Finding("python", True, "there")]
    bad = [] if why is None else [Finding("isolation", False, why)]

    async def diagnose(_: Settings) -> list[Finding]:
        return [*good, *bad]

    monkeypatch.setattr(doctor, "diagnose", diagnose)
    assert run(["doctor"]) == (0 if why is None else 1)
    shown = capsys.readouterr().out
    assert "✓  python" in shown and (why is None or f"✗  isolation      {why}" in shown)


async def test_isolation_is_among_what_is_checked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await found(settings, "isolation")).ok
    let_isolate(monkeypatch, WHY)
    assert not (await found(settings, "isolation")).ok
