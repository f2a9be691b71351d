"""Evacuation: announce, hold the queues, close and drain the runes, stop them, measure the memory free, hand over.

Every step may be repeated: after a crash between any two the evacuation continues from the rows while the lease lives.
What cannot be proven within its time is refused: nothing is trained on an anvil that was not measured free.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Protocol
from uuid import uuid5

import structlog

from services.orchestrator import store
from services.orchestrator.anvil import TAKEN
from services.orchestrator.handover.lease_keeper import LeaseLostError, keep_lease
from services.orchestrator.handover.probes import ask_all
from services.orchestrator.metrics import ABORTED, HAND_OVERS
from services.orchestrator.scheduling.limits import estimate_away_s
from services.orchestrator.steps import EVACUATION, Step, Steps
from shared.contracts.evacuate import GpuEvacuated, InferenceSuspended
from shared.drivers.accelerators.port import AcceleratorError
from shared.drivers.containers.port import ContainerError
from shared.drivers.queues.port import QueueError
from shared.messaging.outbox import enqueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.orchestrator.anvil import Anvil
    from services.orchestrator.engine import Rune
    from services.orchestrator.handover.lease_keeper import LeaseKeeper
    from shared.config.model import AnvilConfig
    from shared.drivers.accelerators.port import Accelerator
    from shared.drivers.queues.port import WorkerQueue
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual

log = structlog.get_logger()
POLL_S = 0.25


class UnprovenError(Exception):
    """The anvil could not be proven free; the message names what occupies it and what to do."""


class Occupant(Protocol):
    """A rune that has to leave the anvil."""

    name: str

    async def gone(self) -> bool: ...


async def evacuate(anvil: Anvil, held: Lease, ritual: Ritual) -> None:
    """Bring the anvil from serving to `gpu.evacuated` or `gpu.refused`; to neither when the lease is lost meanwhile."""
    context = anvil.context
    steps = Steps(context.pool, held.anvil, held.fence)
    try:
        async with keep_lease(context.pool, held, context.configuration.runtime.lease_ttl_s) as keeper:
            await _announce(anvil, ritual, steps)
            await _hold_queues(anvil, steps, keeper)
            await _close_runes(anvil, steps, keeper)
            await _stop_runes(anvil, steps, keeper)
            used = await _prove_free(anvil, steps)
            await keeper.ensure()
            await anvil.close_again(held.fence)
            await _hand_over(anvil, ritual, steps, used)
    except LeaseLostError as error:
        log.warning("evacuation abandoned", anvil=anvil.name, ritual=str(ritual.id), why=str(error))
        HAND_OVERS.labels(anvil.name, "abandoned").inc()
    except (UnprovenError, ContainerError, AcceleratorError, QueueError) as error:
        await _refuse(anvil, ritual, str(error))


async def _announce(anvil: Anvil, ritual: Ritual, steps: Steps) -> None:
    """Publish that inference goes down, before it does."""
    pool = anvil.context.pool
    async with steps.step(Step.ANNOUNCE) as detail:
        used = await anvil.accelerator.used_bytes()
        past_s = await store.list_past_away_s(pool, anvil.name)
        suspended = InferenceSuspended(
            anvil=anvil.name,
            ritual=ritual.id,
            reason=f"training {ritual.persona}",
            models=await anvil.models(),
            expected_s=estimate_away_s(past_s, anvil.context.configuration.tipping.expected_away_s),
        )
        async with pool.acquire() as conn, conn.transaction():
            if await store.record_suspended(conn, steps.anvil, steps.fence, used, suspended.expected_s):
                event_id = uuid5(ritual.id, f"{suspended.subject}/{steps.fence}")
                await enqueue(conn, suspended, event_id, {})
        detail["memory"] = used


async def _hold_queues(anvil: Anvil, steps: Steps, keeper: LeaseKeeper) -> None:
    for name, queue in anvil.queues.items():
        await keeper.ensure()
        async with steps.step(Step.HOLD, name):
            await queue.hold(anvil.holder(steps.fence), TAKEN)
    for name, queue in anvil.queues.items():
        await keeper.ensure()
        await _drain_queue(name, queue, steps)


async def _drain_queue(name: str, queue: WorkerQueue, steps: Steps) -> None:
    async with steps.step(Step.DRAIN_QUEUE, name):
        if left := await queue.drained():
            raise UnprovenError(
                f"queue {name}: {'; '.join(left)} did not end within its grace: give it more grace_s, or end them"
            )


async def _close_runes(anvil: Anvil, steps: Steps, keeper: LeaseKeeper) -> None:
    """Close every rune, then drain each, then record the answers of their models."""
    for rune in anvil.runes:
        await keeper.ensure()
        async with steps.step(Step.CLOSE, rune.name) as detail:
            detail["closed"] = await anvil.close(rune, steps.fence)
    for rune in anvil.runes:
        await keeper.ensure()
        await _drain_rune(anvil, rune, steps)
    if not await steps.ended(Step.PROBE):
        await anvil.close_again(steps.fence)
        await _probe(anvil, steps)


async def _drain_rune(anvil: Anvil, rune: Rune, steps: Steps) -> None:
    async with steps.step(Step.DRAIN, rune.name) as detail:
        # Where the gateway is away no client reaches the engine, and its own metrics count what is left.
        detail["counted_by"] = "gateway and engine" if await anvil.close(rune, steps.fence) else "engine"
        in_flight = await rune.in_flight()
        left = await rune.drain()
        aborted = await rune.abort() if left else 0
        detail |= {"drained": max(in_flight - aborted, 0), "aborted": aborted}
        if aborted:
            ABORTED.labels(anvil.name).inc(aborted)
            log.warning("requests aborted", anvil=anvil.name, rune=rune.name, aborted=aborted)


async def _probe(anvil: Anvil, steps: Steps) -> None:
    async with steps.step(Step.PROBE) as detail:
        # An engine keeps the adapters that it once loaded; those that no persona needs do not come back.
        unserved = await store.list_unserved(anvil.context.pool)
        answers = {rune.name: await ask_all(rune, unserved) for rune in anvil.runes}
        await store.record_probes_before(anvil.context.pool, steps.anvil, steps.fence, answers)
        detail["models"] = sum(len(asked) for asked in answers.values())


async def _stop_runes(anvil: Anvil, steps: Steps, keeper: LeaseKeeper) -> None:
    for rune in reversed(anvil.runes):
        await keeper.ensure()
        await anvil.close_again(steps.fence)
        async with steps.step(Step.STOP, rune.name) as detail:
            detail["manner"] = rune.config.evacuation
            await rune.free_memory()


async def _prove_free(anvil: Anvil, steps: Steps) -> int:
    async with steps.step(Step.PROVE) as detail:
        detail["memory"] = used = await proven_free(anvil.accelerator, anvil.config, anvil.runes, anvil.sleeps)
    return used


async def proven_free(
    accelerator: Accelerator, config: AnvilConfig, occupants: Sequence[Occupant], sleeps: bool = False
) -> int:
    """Wait until the anvil is measured free and return the used bytes. Raises UnprovenError after free_within_s.

    `sleeps`: a sleeping rune keeps its process on purpose, so that only the memory counts.
    """
    deadline = monotonic() + config.free_within_s
    while found := await objections(accelerator, config, occupants, sleeps):
        if monotonic() > deadline:
            raise UnprovenError("; ".join(found))
        await asyncio.sleep(POLL_S)
    return await accelerator.used_bytes()


async def objections(
    accelerator: Accelerator, config: AnvilConfig, occupants: Sequence[Occupant], sleeps: bool = False
) -> list[str]:
    """Measure now what occupies the anvil; empty where it is free."""
    found = [f"rune {occupant.name} still runs" for occupant in occupants if not await occupant.gone()]
    used, limit = await accelerator.used_bytes(), config.free_below
    if used > limit:
        found.append(
            f"{used} bytes are still in use after the runes left, {limit} is the limit: "
            "find the process that holds them and intend again"
        )
    if not sleeps and (processes := await accelerator.processes()):
        found.append(f"processes {', '.join(map(str, processes))} compute on the device: end them and intend again")
    return found


async def _refuse(anvil: Anvil, ritual: Ritual, reason: str) -> None:
    await anvil.refuse(ritual, reason)
    HAND_OVERS.labels(anvil.name, "refused").inc()
    log.error("evacuation refused", anvil=anvil.name, ritual=str(ritual.id), reason=reason)


async def _hand_over(anvil: Anvil, ritual: Ritual, steps: Steps, used: int) -> None:
    async with steps.step(Step.HAND_OVER):
        pool = anvil.context.pool
        start = await store.get_handover_start(pool, steps.anvil, steps.fence)
        fact = GpuEvacuated(
            ritual=ritual.id,
            persona=ritual.persona,
            attempt=ritual.attempt,
            anvil=anvil.name,
            fence=steps.fence,
            memory_before=start.memory_before,
            memory_after=used,
            device=anvil.accelerator.description,
            drained=await steps.sum_detail(Step.DRAIN, "drained"),
            aborted=await steps.sum_detail(Step.DRAIN, "aborted"),
            spans=await steps.list_spans(EVACUATION),
        )
        await store.record_evacuated(pool, steps.anvil, steps.fence, used)
        await anvil.context.record(fact, start.began_at, steps.fence)
    HAND_OVERS.labels(anvil.name, "evacuated").inc()
