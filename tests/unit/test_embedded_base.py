"""The embedded base is prepared where there is nothing; what an owner put into the models folder stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.embedded import base
from deploy.embedded.preflight import PreflightError
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE
from shared.storage.base_model import BaseError, Bases


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["weights.bin", "."])
async def test_a_folder_in_the_place_of_the_base_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    settings, configuration = Settings(home=tmp_path / "home"), embedded()
    mine = settings.models_dir / EMBEDDED_BASE
    mine.mkdir(parents=True)
    if name != ".":
        (mine / name).write_text("mine")
    before = content(mine)

    with pytest.raises(PreflightError, match=f"{mine} holds no base model .*move it away"):
        base.prepare(settings, configuration, print)
    with pytest.raises(BaseError, match=r"move it away, then `soulforge up` prepares one"):
        await Bases(settings, configuration).get(EMBEDDED_BASE)

    assert mine.is_dir() and content(mine) == before


def test_a_link_that_leads_nowhere_is_not_replaced_by_the_base(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    settings.models_dir.mkdir(parents=True)
    link = settings.models_dir / EMBEDDED_BASE
    link.symlink_to(tmp_path / "unmounted")

    with pytest.raises(PreflightError, match="holds no base model"):
        base.prepare(settings, embedded(), print)

    assert link.readlink() == tmp_path / "unmounted"


def test_a_download_of_the_owners_in_the_models_folder_survives_the_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home", models=tmp_path / "models")
    mine = tmp_path / "models" / f".{EMBEDDED_BASE}.partial"
    mine.mkdir(parents=True)
    (mine / "weights.bin").write_text("mine")

    def convert(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[-1]).mkdir()
        (Path(command[-1]) / "config.json").write_text("{}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", convert)
    base.prepare(settings, embedded(), print)

    assert content(mine) == {"weights.bin": b"mine"}
    assert content(tmp_path / "models" / EMBEDDED_BASE) == {"config.json": b"{}"}
