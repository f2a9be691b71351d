"""What was withdrawn or banished serves by an override only, which takes effect together with the promotion."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.registry import store, views
from services.registry.decisions import RefusedError
from services.registry.store import Version
from shared.contracts.registry import Action, AdapterKept
from shared.contracts.ritual import State
from shared.storage.postgres import Pool
from tests.support.crypts import TwoBases
from tests.support.deciding import bases, crypt, decided, end_of, registry_of, two_bases

__all__ = ["bases", "crypt", "two_bases"]  # the fixtures


@pytest.mark.parametrize("why", ["withdrawn", "banished"])
async def test_a_withdrawn_or_banished_digest_serves_by_a_recorded_override_only(
    bases: TwoBases, crypt: Pool, why: str
) -> None:
    before, version = await bases.add_version("scribe", 0.1), await bases.add_registered("scribe", 0.2)
    service = registry_of(bases)
    if why == "withdrawn":
        await decided(crypt, Action.RETIRE, version.name, before.name)
    else:
        await record_banished(crypt, before.ritual, version.adapter)

    await service.reconcile()

    state, kept = await end_of(crypt, version.ritual, AdapterKept)
    assert state is State.KEPT and isinstance(kept, AdapterKept) and "was withdrawn (" in kept.reason
    assert version.name not in await bases.engines["large"].models()
    with pytest.raises(RefusedError, match="only an override"):
        await decided(crypt, Action.PROMOTE, version.name, before.name)

    after = await decided(crypt, Action.PROMOTE, version.name, before.name, override=True, why="it is needed")
    assert after.champion == before.name and after.approved, "it is loaded and proven first"
    assert await is_withdrawn(crypt, version), "until it is promoted"
    await service.reconcile()
    assert not await is_withdrawn(crypt, version)
    assert await views.list_aliases(crypt) == {"scribe": version.name}
    last = (await views.list_decisions(crypt, "scribe"))[0]
    assert (last.action, last.override, last.by, last.why) == ("promote", True, "me", "it is needed")


@pytest.mark.parametrize("way", ["rejected", "superseded", "damaged", "withdrawn"])
async def test_an_override_whose_promotion_does_not_come_changes_nothing(
    bases: TwoBases, crypt: Pool, way: str
) -> None:
    before, other = await bases.add_version("scribe", 0.1), await bases.add_version("scribe", 0.2)
    version = await bases.add_version("scribe", 0.3)
    await decided(crypt, Action.RETIRE, version.name, version.name)
    asked = await decided(crypt, Action.PROMOTE, version.name, other.name, override=True, why="it is needed")
    assert asked.approved
    match way:
        case "rejected":
            await decided(crypt, Action.REJECT, version.name, other.name)
        case "superseded":
            await decided(crypt, Action.PROMOTE, before.name, other.name)
        case "damaged":
            bases.damage(version)
        case "withdrawn":
            after = await decided(crypt, Action.RETIRE, version.name, other.name)
            assert after.candidate is None

    await registry_of(bases).reconcile()

    assert await is_withdrawn(crypt, version)
    assert await views.list_aliases(crypt) == {"scribe": before.name if way == "superseded" else other.name}
    assert version.name not in await bases.engines["large"].models()


async def is_withdrawn(crypt: Pool, version: Version) -> bool:
    found: bool = await crypt.fetchval("SELECT EXISTS (SELECT FROM withdrawal WHERE adapter = $1)", version.adapter)
    return found


async def test_a_digest_that_is_banished_meanwhile_is_neither_promoted_nor_rolled_back_to(
    bases: TwoBases, crypt: Pool
) -> None:
    first, second = await bases.add_version("scribe", 0.1), await bases.add_version("scribe", 0.2)
    approved = await bases.add_registered("scribe", 0.3)
    assert (await decided(crypt, Action.PROMOTE, approved.name, second.name)).approved, "it is loaded and proven first"
    await record_banished(crypt, first.ritual, first.adapter)
    await record_banished(crypt, second.ritual, approved.adapter)

    await registry_of(bases).reconcile()

    assert (await end_of(crypt, approved.ritual, AdapterKept))[0] is State.KEPT
    assert await views.list_aliases(crypt) == {"scribe": second.name}
    assert await store.list_approved(crypt) == []
    assert "banished its adapter" in (await views.list_decisions(crypt, "scribe"))[0].why
    with pytest.raises(RefusedError, match=f"{first.name} cannot serve: it was withdrawn"):
        await decided(crypt, Action.ROLL_BACK, None, second.name)


async def record_banished(crypt: Pool, ritual: UUID, adapter: str) -> None:
    await crypt.execute(
        "INSERT INTO ritual_fact (event_id, ritual, subject, step, owner, attempt, state_before, state_after, body, started_at) "
        "VALUES (gen_random_uuid(), $1, 'adapter.banished', 'verify', 'verifier', 2, 'forged', 'banished', $2, now())",
        ritual,
        {"adapter": adapter},
    )
