"""Two bases on one anvil: the registry loads each version into the rune that serves the base it was trained on."""

from __future__ import annotations

from services.registry import views
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.storage.postgres import Pool
from tests.support.crypts import TwoBases, crypt, two_bases

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
