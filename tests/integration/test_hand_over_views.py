"""What others read of the orchestrator: the receipts, decisions and anvils of a hand-over that really took place."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from services.orchestrator import containment, store, views
from services.orchestrator.anvil import Anvil
from services.orchestrator.scheduling.decision import Verdict
from services.orchestrator.steps import Step
from shared.contracts.forge import AdapterFailed
from shared.runtime.context import ServiceContext
from tests.support.anvils import MIB, FakeRune, anvil, checks, context, rune
from tests.support.orchestrated import harvested

__all__ = ["anvil", "context", "rune"]  # the fixtures


async def test_a_hand_over_is_read_as_the_orchestrator_recorded_it(
    anvil: Anvil, context: ServiceContext, rune: FakeRune
) -> None:
    rune.busy = 2
    ritual = await harvested(context.settings, "one")
    await checks(anvil, 2)
    taken = await views.get_anvil_status(context.pool, "anvil0")
    work = await views.get_restoration(context.pool, "anvil0", 1)
    await context.record(AdapterFailed(ritual=ritual, persona="scribe", reason="broken"), datetime.now(UTC))
    await checks(anvil, 1)

    assert taken.holder == views.Holder(ritual, "scribe", 1, 1, live=True)
    assert (taken.containment, taken.reclaim, taken.open_fence) == (None, None, 1)
    assert work and (work.released_at, work.restored_at, work.step, work.contained) == (None, None, None, None)
    [receipt] = await views.list_handovers(context.pool, ritual)
    assert (receipt.memory_before, receipt.memory_after, receipt.memory_restored) == (900 * MIB, 0, 900 * MIB)
    assert receipt.probes_before == receipt.probes_after == {"rune": {"base": rune.answers}}
    drain = next(step for step in receipt.steps if step.step is Step.DRAIN)
    counts = {"drained": 0, "aborted": 2, "counted_by": "gateway and engine"}
    assert (drain.part, drain.tries, drain.detail) == ("rune", 1, counts)
    assert await views.list_away_s(context.pool, [ritual, uuid4()]) == {ritual: receipt.seconds_without_inference}
    back = await views.get_restoration(context.pool, "anvil0", 1)
    assert back and back.restored_at == receipt.restored_at
    decision = await views.get_decision(context.pool, ritual)
    assert decision and (decision.verdict, decision.measures["cause"]) == (Verdict.NOW, "immediate")


async def test_the_status_of_an_anvil_has_what_keeps_rituals_from_it(anvil: Anvil, context: ServiceContext) -> None:
    free = await views.get_anvil_status(context.pool, "anvil0")
    assert (free.holder, free.containment, free.reclaim, free.open_fence) == (None, None, None, None)

    await containment.contain(context.pool, "anvil0", "rune is stuck", 5)
    await store.record_reclaim(context.pool, "anvil0", "demo", 600, datetime.now(UTC))
    status = await views.get_anvil_status(context.pool, "anvil0")

    held_back = status.containment
    assert held_back and held_back == views.Containment("rune is stuck", 5, False, held_back.since)
    assert status.reclaim and status.reclaim.why == "demo" and status.reclaim.until > status.now


async def test_what_was_never_recorded_is_none(context: ServiceContext) -> None:
    assert await views.get_decision(context.pool, uuid4()) is None
    assert await views.get_restoration(context.pool, "anvil0", 1) is None
    assert await views.list_handovers(context.pool, uuid4()) == []
