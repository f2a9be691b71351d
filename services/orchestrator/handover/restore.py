"""The invariant "no lease, then inference serves": enforced at every look, not a step that could be forgotten."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid5

import structlog

from services.orchestrator import containment, store
from services.orchestrator.engine import Condition
from services.orchestrator.handover.probes import ask_all, differing, missing
from services.orchestrator.handover.steps import RESTORATION, Step, Steps
from shared import ledger
from shared.contracts.evacuate import GpuRestored, InferenceResumed
from shared.drivers.inference.port import InferenceError
from shared.metrics import HAND_OVERS, SECONDS_WITHOUT_INFERENCE, SERVING
from shared.outbox import enqueue

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from services.orchestrator.engine import Rune
    from services.orchestrator.handover.probes import Answers
    from services.orchestrator.store import OpenHandover, RestoredHandover
    from shared.contracts.job import JobSpan
    from shared.postgres import Connection

log = structlog.get_logger()
LOG_TAIL = 5
POLL_S = 0.25


async def restore(anvil: Anvil) -> bool:
    """Bring the anvil to serving, as far as it comes; True when it serves. Call it only when nobody holds the anvil.

    Waits while an engine starts; a rune that failed is tried again at a later look, at a growing distance.
    """
    await anvil.end_jobs("nobody holds the anvil")
    receipt = await store.get_open_handover(anvil.station.pool, anvil.name)
    steps = Steps(anvil.station.pool, anvil.name, receipt.fence) if receipt else None
    for rune in anvil.runes:
        if not await _up(anvil, rune, steps):
            SERVING.labels(anvil.name).set(0)
            return False
    for rune in anvil.runes:
        if not await _opened(anvil, rune, steps, receipt):
            return False
    await _release_queues(anvil, steps)
    if steps:
        await _resume(anvil, steps)
    SERVING.labels(anvil.name).set(1)
    await containment.lift(anvil)
    return True


async def _up(anvil: Anvil, rune: Rune, steps: Steps | None) -> bool:
    """The engine answers; started if it is down and may be."""
    condition = await rune.condition()
    if condition is Condition.DOWN:
        if not await store.may_start_rune(anvil.station.pool, anvil.name, rune.name):
            return False
        await _begin(steps, Step.START, rune)
        await rune.start()
        log.info("rune started", anvil=anvil.name, rune=rune.name)
    await _end(steps, Step.START, rune)
    await _begin(steps, Step.ANSWER, rune)
    while (condition := await rune.condition()) is Condition.STARTING:
        await asyncio.sleep(POLL_S)
    if condition is not Condition.SERVING:
        await _note_failure(anvil, rune, condition, "")
        return False
    await _end(steps, Step.ANSWER, rune)
    return True


async def _note_failure(anvil: Anvil, rune: Rune, condition: Condition, why: str) -> None:
    reason = why or await rune.containers.logs(rune.container, LOG_TAIL)
    await rune.stop()
    count = await store.record_rune_failure(anvil.station.pool, anvil.name, rune.name, reason)
    log.error(
        "rune down", anvil=anvil.name, rune=rune.name, condition=condition, failures_in_a_row=count, last_words=reason
    )
    if count >= anvil.own.contain_after:
        serves = condition is Condition.SERVING
        what = reason if serves else f"rune {rune.name} is {condition}: {reason}"
        await containment.contain(anvil, what, count, until_accepted=serves)


async def _opened(anvil: Anvil, rune: Rune, steps: Steps | None, receipt: OpenHandover | None) -> bool:
    """It admits requests: at once where there is nothing to compare, else once its models answer as before."""
    before: Answers = receipt.probes_before.get(rune.name, {}) if receipt else {}
    if steps and before and not await steps.done(Step.OPEN, rune.name):
        answers = await _compared(anvil, rune, steps, before)
        if differing(before, answers) and not await _given_up(anvil, rune):
            models = ", ".join(differing(before, answers))
            await _note_failure(anvil, rune, Condition.SERVING, f"{models} answers otherwise than before the hand-over")
            return False
    await _begin(steps, Step.OPEN, rune)
    try:
        await rune.open()
    except InferenceError as error:
        log.warning("rune not opened", anvil=anvil.name, rune=rune.name, error=str(error))
        return False
    await _end(steps, Step.OPEN, rune)
    return True


async def _given_up(anvil: Anvil, rune: Rune) -> bool:
    """An engine that answers otherwise is better than none, once starting it again has not helped: it is contained."""
    return await store.count_rune_failures(anvil.station.pool, anvil.name, rune.name) >= anvil.own.contain_after


async def _compared(anvil: Anvil, rune: Rune, steps: Steps, before: Answers) -> Answers:
    async with steps.step(Step.LOAD, rune.name) as detail:
        wanted = {model for model, answer in before.items() if answer is not None}
        deadline = monotonic() + anvil.own.models_within_s
        while lacking := wanted - await rune.models():
            if monotonic() > deadline:
                log.error("models missing after a hand-over", anvil=anvil.name, rune=rune.name, missing=sorted(lacking))
                break
            await asyncio.sleep(POLL_S)
        detail |= {"models": len(wanted), "missing": len(lacking)}
    async with steps.step(Step.COMPARE, rune.name) as detail:
        after = await ask_all(rune.inference)
        await store.record_probes_after(anvil.station.pool, steps.anvil, steps.fence, rune.name, after)
        detail |= {"equal": not differing(before, after), "missing": len(missing(before, after))}
    return after


async def _release_queues(anvil: Anvil, steps: Steps | None) -> None:
    """Whoever holds them for this anvil does so no more: a hold that was left behind by a crash ends here, too."""
    for name, queue in anvil.queues.items():
        stale = [holder for holder in await queue.held() if holder.startswith(f"{anvil.name}/")]
        if stale and steps:
            await steps.begin(Step.RELEASE, name)
        for holder in stale:
            await queue.release(holder)
        if stale and steps:
            await steps.end(Step.RELEASE, name)


async def _resume(anvil: Anvil, steps: Steps) -> None:
    pool = anvil.station.pool
    used = await anvil.accelerator.used_bytes()
    models = tuple(sorted({model for rune in anvil.runes for model in await rune.models()}))
    await steps.begin(Step.RESUME)
    spans = await steps.spans(RESTORATION)
    async with pool.acquire() as conn, conn.transaction():
        for receipt in await store.record_restored(conn, anvil.name, used):
            await _tell(conn, anvil, receipt, models, spans if receipt.fence == steps.fence else ())
    await steps.end(Step.RESUME)


async def _tell(
    conn: Connection, anvil: Anvil, receipt: RestoredHandover, models: tuple[str, ...], spans: tuple[JobSpan, ...]
) -> None:
    seconds = receipt.seconds_without_inference
    equal, lost = compare_all(receipt.probes_before, receipt.probes_after)
    fact = GpuRestored(
        ritual=receipt.ritual,
        persona=receipt.persona,
        attempt=receipt.attempt,
        anvil=anvil.name,
        seconds_without_inference=seconds,
        memory_restored=receipt.memory_restored,
        probes_equal=equal,
        missing=lost,
        spans=spans,
    )
    await ledger.state_fact(conn, fact, anvil.station.service, receipt.released_at)
    said = InferenceResumed(anvil=anvil.name, models=models, seconds_without_inference=seconds)
    await enqueue(conn, said, uuid5(receipt.ritual, f"{said.subject}/{receipt.fence}"), {})
    SECONDS_WITHOUT_INFERENCE.labels(anvil.name).inc(seconds)
    HAND_OVERS.labels(anvil.name, "restored").inc()
    log.info(
        "inference restored",
        anvil=anvil.name,
        ritual=str(receipt.ritual),
        seconds_without_inference=round(seconds, 1),
        probes_equal=equal,
    )


def compare_all(before: dict[str, Answers], after: dict[str, Answers]) -> tuple[bool | None, tuple[str, ...]]:
    """Whether every model of every rune answers as before (None where none was asked), and which are missing."""
    asked = [rune for rune, answers in before.items() if any(answer is not None for answer in answers.values())]
    if not asked or not after:
        return None, ()
    equal = not any(differing(before[rune], after.get(rune, {})) for rune in asked)
    return equal, tuple(sorted({model for rune in asked for model in missing(before[rune], after.get(rune, {}))}))


async def _begin(steps: Steps | None, step: Step, rune: Rune) -> None:
    if steps:
        await steps.begin(step, rune.name)


async def _end(steps: Steps | None, step: Step, rune: Rune) -> None:
    if steps:
        await steps.end(step, rune.name)
