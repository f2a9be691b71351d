"""Restoration: an anvil without a lease serves. Enforced at every check, so that no crash can skip it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid5

import structlog

from services.orchestrator import rune_failures, store
from services.orchestrator.containment import contain, lift
from services.orchestrator.engine import UNPROVEN, Condition
from services.orchestrator.handover.probes import ask_all, compare_runes, differing, missing
from services.orchestrator.metrics import HAND_OVERS, SECONDS_WITHOUT_INFERENCE, SERVING
from services.orchestrator.steps import RESTORATION, Step, Steps
from shared.contracts.evacuate import GpuRestored, InferenceResumed
from shared.drivers.inference.port import InferenceError
from shared.messaging.outbox import enqueue
from shared.ritual import ledger

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from services.orchestrator.engine import Rune
    from services.orchestrator.steps import Answers
    from services.orchestrator.store import OpenHandover, RestoredHandover
    from shared.contracts.job import JobSpan
    from shared.storage.postgres import Connection

log = structlog.get_logger()
LOG_TAIL = 5
POLL_S = 0.25


async def restore(anvil: Anvil) -> bool:
    """Bring an anvil without a holder to serving; True when it serves, False when a later check must try again.

    Blocks while an engine starts, up to its start_within_s. A rune that failed is started again at growing intervals.
    """
    await anvil.end_jobs("the anvil has no holder")
    handover = await store.get_open_handover(anvil.context.pool, anvil.name)
    steps = Steps(anvil.context.pool, anvil.name, handover.fence) if handover else None
    for rune in anvil.runes:
        if not await _start(anvil, rune, steps):
            SERVING.labels(anvil.name).set(0)
            return False
    for rune in anvil.runes:
        if not await _open(anvil, rune, steps, handover):
            return False
    await _release_queues(anvil, steps)
    if steps:
        await _resume(anvil, steps)
    SERVING.labels(anvil.name).set(1)
    await lift(anvil.context.pool, anvil.name)
    return True


async def _start(anvil: Anvil, rune: Rune, steps: Steps | None) -> bool:
    """Start the rune if it is down, and wait until it answers."""
    condition = await rune.condition()
    if condition is Condition.DOWN:
        if not await rune_failures.may_start(anvil.context.pool, anvil.name, rune.name):
            return False
        await _begin(steps, Step.START, rune)
        await rune.start()
        log.info("rune started", anvil=anvil.name, rune=rune.name)
    await _end(steps, Step.START, rune)
    await _begin(steps, Step.ANSWER, rune)
    while (condition := await rune.condition()) is Condition.STARTING:
        await rune.close(UNPROVEN)  # also where the gateway was away when it was started
        await asyncio.sleep(POLL_S)
    if condition is not Condition.SERVING:
        await _stop_failed(anvil, rune, condition, await rune.containers.logs(rune.container, LOG_TAIL))
        return False
    await _end(steps, Step.ANSWER, rune)
    return True


async def _stop_failed(anvil: Anvil, rune: Rune, condition: Condition, reason: str) -> None:
    """Stop a rune that failed, count the failure, and contain its anvil after too many in a row."""
    await rune.stop()
    count = await rune_failures.record_failure(anvil.context.pool, anvil.name, rune.name, reason)
    log.error("rune failed", anvil=anvil.name, rune=rune.name, condition=condition, failures=count, reason=reason)
    if count >= anvil.settings.contain_after:
        serves = condition is Condition.SERVING
        what = reason if serves else f"rune {rune.name} is {condition}: {reason}"
        await contain(anvil.context.pool, anvil.name, what, count, until_accepted=serves)


async def _open(anvil: Anvil, rune: Rune, steps: Steps | None, handover: OpenHandover | None) -> bool:
    """Open the rune's admission, once its models answer as before the hand-over."""
    before = handover.probes_before.get(rune.name) if handover else None
    if steps and before and not await steps.ended(Step.OPEN, rune.name):
        different = differing(before, await _compare(anvil, rune, steps, before))
        if different and not await _retried_enough(anvil, rune):
            reason = f"{', '.join(different)} answers differently than before the hand-over"
            await _stop_failed(anvil, rune, Condition.SERVING, reason)
            return False
    await _begin(steps, Step.OPEN, rune)
    try:
        opened = await rune.open()
    except InferenceError as error:
        log.warning("rune not opened", anvil=anvil.name, rune=rune.name, error=str(error))
        return False
    if steps:
        await steps.end(Step.OPEN, rune.name, {"opened": opened})
    return True


async def _retried_enough(anvil: Anvil, rune: Rune) -> bool:
    """True once starting it again has not helped: an engine that answers differently is better than none."""
    failures = await rune_failures.count_failures(anvil.context.pool, anvil.name, rune.name)
    return failures >= anvil.settings.contain_after


async def _compare(anvil: Anvil, rune: Rune, steps: Steps, before: Answers) -> Answers:
    """Wait for the rune's adapters that are still needed, then ask its models again. Returns their answers."""
    async with steps.step(Step.LOAD, rune.name) as detail:
        await rune.close(UNPROVEN)
        expected = {model for model, answer in before.items() if answer is not None}
        deadline = monotonic() + anvil.settings.models_within_s
        while lacking := expected - await rune.models() - await store.list_unserved(anvil.context.pool):
            if monotonic() > deadline:
                log.error("models missing after a hand-over", anvil=anvil.name, rune=rune.name, missing=sorted(lacking))
                break
            await asyncio.sleep(POLL_S)
        detail |= {"models": len(expected), "missing": len(lacking)}
    async with steps.step(Step.COMPARE, rune.name) as detail:
        await rune.close(UNPROVEN)
        after = await ask_all(rune)
        await store.record_probes_after(anvil.context.pool, steps.anvil, steps.fence, rune.name, after)
        detail |= {"equal": not differing(before, after), "missing": len(missing(before, after))}
    return after


async def _release_queues(anvil: Anvil, steps: Steps | None) -> None:
    """Release every hold of this anvil, also one that a crash left behind."""
    for name, queue in anvil.queues.items():
        stale = [holder for holder in await queue.held() if holder.startswith(f"{anvil.name}/")]
        if stale and steps:
            await steps.begin(Step.RELEASE, name)
        for holder in stale:
            await queue.release(holder)
        if stale and steps:
            await steps.end(Step.RELEASE, name)


async def _resume(anvil: Anvil, steps: Steps) -> None:
    """Close the hand-overs in one transaction with their facts."""
    used = await anvil.accelerator.used_bytes()
    models = await anvil.models()
    await steps.begin(Step.RESUME)
    spans = await steps.list_spans(RESTORATION)
    async with anvil.context.pool.acquire() as conn, conn.transaction():
        for handover in await store.record_restored(conn, anvil.name, used):
            await _record_facts(conn, anvil, handover, models, spans if handover.fence == steps.fence else ())
    await steps.end(Step.RESUME)


async def _record_facts(
    conn: Connection, anvil: Anvil, handover: RestoredHandover, models: tuple[str, ...], spans: tuple[JobSpan, ...]
) -> None:
    seconds = handover.seconds_without_inference
    equal, lost = compare_runes(handover.probes_before, handover.probes_after)
    fact = GpuRestored(
        ritual=handover.ritual,
        persona=handover.persona,
        attempt=handover.attempt,
        anvil=anvil.name,
        seconds_without_inference=seconds,
        memory_restored=handover.memory_restored,
        probes_equal=equal,
        missing=lost,
        spans=spans,
    )
    await ledger.record_fact(conn, fact, anvil.context.service, handover.released_at)
    resumed = InferenceResumed(anvil=anvil.name, models=models, seconds_without_inference=seconds)
    await enqueue(conn, resumed, uuid5(handover.ritual, f"{resumed.subject}/{handover.fence}"), {})
    SECONDS_WITHOUT_INFERENCE.labels(anvil.name).inc(seconds)
    HAND_OVERS.labels(anvil.name, "restored").inc()
    log.info(
        "inference restored",
        anvil=anvil.name,
        ritual=str(handover.ritual),
        seconds_without_inference=round(seconds, 1),
        probes_equal=equal,
    )


async def _begin(steps: Steps | None, step: Step, rune: Rune) -> None:
    if steps:
        await steps.begin(step, rune.name)


async def _end(steps: Steps | None, step: Step, rune: Rune) -> None:
    if steps:
        await steps.end(step, rune.name)
