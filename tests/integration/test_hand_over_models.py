"""What a restoration waits for: the adapters that personas need now, not every model that the engine had loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

import pytest

from services.orchestrator import views
from services.orchestrator.anvil import Anvil
from services.orchestrator.settings import OrchestratorSettings
from shared.contracts.evacuate import GpuRestored
from shared.contracts.forge import AdapterFailed
from shared.ritual import ledger
from shared.runtime.context import ServiceContext
from shared.storage.postgres import Pool
from tests.support.anvils import FakeRune, an_anvil, checks, context
from tests.support.orchestrated import harvested

__all__ = ["context"]  # the fixture

WITHIN_S = 1.5


class AdapterRune(FakeRune):
    """A rune in which the registry has loaded `wanted`, and which keeps what it loaded until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = {"base"}
        self.loaded = {"base"}

    async def start(self) -> None:
        await super().start()
        self.loaded = set(self.wanted)

    async def models(self) -> frozenset[str]:
        return frozenset(self.loaded) if self.up else frozenset()


@pytest.fixture
def rune() -> AdapterRune:
    return AdapterRune()


@pytest.fixture
def anvil(context: ServiceContext, rune: AdapterRune) -> Anvil:
    return replace(an_anvil(context, rune), settings=OrchestratorSettings(models_within_s=WITHIN_S))


async def awaken(pool: Pool, rune: AdapterRune, version: str) -> None:
    """Register a version, move the alias of `scribe` to it, and load it, as the registry does."""
    await pool.execute(
        "INSERT INTO registry.version (name, persona, adapter, base, ritual, bundle) "
        "VALUES ($1, 'scribe', 'a', 'b', gen_random_uuid(), '/nowhere')",
        version,
    )
    await pool.execute(
        "INSERT INTO registry.alias AS a (persona, champion) VALUES ('scribe', $1) "
        "ON CONFLICT (persona) DO UPDATE SET previous = a.champion, champion = $1",
        version,
    )
    rune.wanted = {"base", version}
    rune.loaded.add(version)


async def hand_over(anvil: Anvil, name: str) -> tuple[UUID, float]:
    """A ritual that takes the anvil and gives it back at once, and the seconds that restoring it took."""
    ritual = await harvested(anvil.context.settings, name)
    await checks(anvil, 2)
    await anvil.context.record(AdapterFailed(ritual=ritual, persona="scribe", reason="over"), datetime.now(UTC))
    started = monotonic()
    await checks(anvil, 2)
    return ritual, monotonic() - started


async def test_the_third_hand_over_of_a_persona_waits_no_longer_than_its_first(
    admin: Pool, anvil: Anvil, context: ServiceContext, rune: AdapterRune
) -> None:
    _, first_s = await hand_over(anvil, "one")
    await awaken(admin, rune, "scribe@1")
    await hand_over(anvil, "two")
    await awaken(admin, rune, "scribe@2")
    assert rune.loaded == {"base", "scribe@1", "scribe@2"}

    third, third_s = await hand_over(anvil, "three")

    assert third_s < first_s + WITHIN_S / 2
    restored = await ledger.require_fact(context.pool, third, GpuRestored)
    assert (restored.probes_equal, restored.missing) == (True, ())
    [handover] = await views.list_handovers(context.pool, third)
    assert handover.probes_before and handover.probes_before["rune"].keys() == {"base", "scribe@2"}


async def test_a_version_that_was_withdrawn_during_the_hand_over_is_not_waited_for(
    admin: Pool, anvil: Anvil, context: ServiceContext, rune: AdapterRune
) -> None:
    await awaken(admin, rune, "scribe@1")
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    await admin.execute("DELETE FROM registry.alias")
    rune.wanted = {"base"}
    await context.record(AdapterFailed(ritual=ritual, persona="scribe", reason="over"), datetime.now(UTC))
    started = monotonic()

    await checks(anvil, 1)

    assert monotonic() - started < WITHIN_S / 2
    assert await ledger.require_fact(context.pool, ritual, GpuRestored)


@pytest.mark.parametrize("lost", ["scribe@1", "of-the-owner"])
async def test_a_model_that_is_needed_is_waited_for_and_reported_missing(
    admin: Pool, anvil: Anvil, context: ServiceContext, rune: AdapterRune, lost: str
) -> None:
    await awaken(admin, rune, "scribe@1")
    rune.loaded.add("of-the-owner")
    rune.wanted = {"base", "scribe@1", "of-the-owner"} - {lost}

    ritual, restored_s = await hand_over(anvil, "one")

    assert restored_s >= WITHIN_S
    assert (await ledger.require_fact(context.pool, ritual, GpuRestored)).missing == (lost,)
