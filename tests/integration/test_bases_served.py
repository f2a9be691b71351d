"""Two bases on one anvil: the registry loads each version into the rune that serves the base it was trained on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.registry import views
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.contracts.forge import AdapterFailed
from shared.contracts.ritual import State
from shared.ritual import ledger
from shared.runtime import advance
from shared.storage import base_model
from shared.storage.postgres import Pool
from tests.support.crypts import MAX_ERRORS, TwoBases, crypt, two_bases

__all__ = ["crypt", "two_bases"]  # the fixtures


async def test_each_version_is_loaded_where_its_base_is_served_and_nowhere_else(
    two_bases: TwoBases, crypt: Pool
) -> None:
    scribe, coder = await two_bases.add_version("scribe"), await two_bases.add_version("coder")
    muse = await two_bases.add_version("muse", base="sha256:of-a-base-that-is-gone")

    await Registry(two_bases.context, RegistrySettings()).reconcile()

    assert await two_bases.engines["large"].models() == {"large", scribe.name}
    assert await two_bases.engines["small"].models() == {"small", coder.name}
    troubles = [served.trouble for served in await views.list_served(crypt) if served.trouble]
    assert len(troubles) == 1 and f"{muse.name} does not serve: no rune serves the base" in troubles[0]


async def test_a_base_that_is_missing_delays_no_other(two_bases: TwoBases, crypt: Pool) -> None:
    coder = await two_bases.add_version("coder")
    (two_bases.folder / "large" / "config.json").unlink()

    await Registry(two_bases.context, RegistrySettings()).reconcile()

    assert await two_bases.engines["small"].models() == {"small", coder.name}


def unmount(config: Path) -> None:
    config.unlink()


def change(config: Path) -> None:
    config.write_text('{"name": "another"}')


@pytest.mark.parametrize(
    ("damage", "reason"), [(unmount, "correct bases.large.path"), (change, "Put the former files back")]
)
async def test_a_ritual_whose_base_cannot_be_used_ends_with_what_to_do_about_that_base(
    two_bases: TwoBases, crypt: Pool, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.setattr(advance, "FIRST_DELAY_S", 0.0)
    version = await two_bases.add_registered("scribe", 0.1)
    damage(two_bases.folder / "large" / "config.json")
    service = Registry(two_bases.context, RegistrySettings())

    for _ in range(MAX_ERRORS):
        await service.reconcile()

    failed = await ledger.get_fact(crypt, version.ritual, AdapterFailed)
    assert failed and reason in failed.reason


async def test_a_full_disk_while_a_base_is_read_counts_against_no_ritual(
    two_bases: TwoBases, crypt: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "FIRST_DELAY_S", 0.0)
    await two_bases.add_registered("scribe", 0.1)
    (two_bases.context.settings.home / "bases" / "large.json").unlink()

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(base_model, "write_atomically", write)
    service = Registry(two_bases.context, RegistrySettings())

    for _ in range(MAX_ERRORS):
        await service.reconcile()

    assert await ledger.list_rituals(crypt, State.REGISTERED)
    assert not await crypt.fetchval("SELECT count(*) FROM ritual_error")
