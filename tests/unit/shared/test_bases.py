"""Base models: found where they are declared, named by a digest that is computed once and checked ever after."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.model import Configuration, RuneConfig, embedded
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE, BaseConfig
from shared.storage.base_model import BaseError, Bases
from shared.storage.digests import digest_tree


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A model of the owner's."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    return folder


def declared(**paths: Path) -> Configuration:
    bases = {name: BaseConfig(path=path) for name, path in paths.items()}
    return embedded().model_copy(update={"bases": bases, "runes": {"rune": RuneConfig(base="mine")}})


async def test_a_declared_base_has_the_digest_of_its_folder_and_nothing_is_written_there(
    settings: Settings, mine: Path
) -> None:
    bases = Bases(settings, declared(mine=mine))

    found = await bases.get("mine")

    assert (found.name, found.path, found.digest) == ("mine", mine, digest_tree(mine))
    assert await bases.find(found.digest) == found and await bases.find("sha256:other") is None
    assert sorted(file.name for file in mine.iterdir()) == ["config.json", "model.safetensors"]
    assert (settings.home / "bases" / "mine.json").is_file()


async def test_a_changed_folder_is_refused_until_the_former_files_are_back(settings: Settings, mine: Path) -> None:
    first = await Bases(settings, declared(mine=mine)).get("mine")
    (mine / "model.safetensors").write_text("other weights")

    for _ in range(2):
        with pytest.raises(
            BaseError, match=f"base mine in {mine} has changed: its digest was {first.digest} and is sha"
        ):
            await Bases(settings, declared(mine=mine)).get("mine")

    (mine / "model.safetensors").write_text("weights")
    assert await Bases(settings, declared(mine=mine)).get("mine") == first


async def test_a_folder_may_move_and_be_touched(settings: Settings, mine: Path, tmp_path: Path) -> None:
    first = await Bases(settings, declared(mine=mine)).get("mine")
    moved = mine.rename(tmp_path / "moved")
    (moved / "config.json").touch()

    assert (await Bases(settings, declared(mine=moved)).get("mine")).digest == first.digest


async def test_a_base_that_is_missing_is_named_with_what_to_do(settings: Settings, tmp_path: Path) -> None:
    bases = Bases(settings, declared(mine=tmp_path / "nowhere"))

    with pytest.raises(BaseError, match=r"no base model in .*nowhere .*: correct bases\.mine\.path in soulforge\.toml"):
        await bases.get("mine")
    with pytest.raises(BaseError, match="run `soulforge up`, which prepares it"):
        await bases.get(EMBEDDED_BASE)


async def test_a_base_that_cannot_be_read_keeps_no_other_from_being_found(
    settings: Settings, mine: Path, tmp_path: Path
) -> None:
    runes = {"gone": RuneConfig(base="gone"), "rune": RuneConfig(base="mine")}
    configuration = declared(mine=mine, gone=tmp_path / "nowhere").model_copy(update={"runes": runes})
    bases = Bases(settings, configuration)

    assert await bases.find(digest_tree(mine)) == await bases.get("mine")
    with pytest.raises(BaseError, match="nowhere"):
        await bases.find("sha256:of-the-base-that-is-gone")
