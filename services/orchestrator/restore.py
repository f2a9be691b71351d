"""The invariant "no lease, then inference serves": enforced at every look, not a step that could be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid5

import structlog

from services.orchestrator import store
from services.orchestrator.rune import Condition
from shared import ledger
from shared.base import find_base
from shared.contracts.evacuate import GpuRestored, InferenceResumed
from shared.metrics import SECONDS_WITHOUT_INFERENCE, SERVING
from shared.outbox import enqueue

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from shared.postgres import Connection

log = structlog.get_logger()
LOG_TAIL = 5


async def restore(anvil: Anvil) -> bool:
    """Bring the rune one step nearer to serving; True when it serves. Call it only when nobody holds the anvil."""
    await anvil.end_jobs("nobody holds the anvil")
    condition = await anvil.rune.condition()
    SERVING.labels(anvil.name).set(condition is Condition.SERVING)
    if condition is Condition.SERVING:
        await _close_hand_overs(anvil)
        return True
    if condition in (Condition.CRASHED, Condition.STUCK):
        await _note_failure(anvil, condition)
    elif condition is Condition.DOWN and await store.rune_may_start(anvil.station.pool, anvil.name):
        await anvil.rune.start(find_base(anvil.station.settings))
        log.info("rune started", anvil=anvil.name)
    return False


async def _note_failure(anvil: Anvil, condition: Condition) -> None:
    reason = await anvil.rune.containers.logs(anvil.rune.name, LOG_TAIL)
    await anvil.rune.stop()
    await anvil.rune.forget()
    count = await store.rune_failed(anvil.station.pool, anvil.name, reason)
    log.error("rune down", anvil=anvil.name, condition=condition, failures_in_a_row=count, last_words=reason)


async def _close_hand_overs(anvil: Anvil) -> None:
    station = anvil.station
    models = tuple(sorted(await anvil.models()))
    async with station.pool.acquire() as conn, conn.transaction():
        for receipt in await store.restored(conn, anvil.name):
            await _tell(conn, anvil, receipt, models)


async def _tell(conn: Connection, anvil: Anvil, receipt: dict[str, Any], models: tuple[str, ...]) -> None:
    seconds = receipt["seconds_without_inference"]
    fact = GpuRestored(
        ritual=receipt["ritual"],
        persona=receipt["persona"],
        attempt=receipt["attempt"],
        anvil=anvil.name,
        seconds_without_inference=seconds,
    )
    await ledger.state_fact(conn, fact, anvil.station.service, receipt["released_at"])
    said = InferenceResumed(anvil=anvil.name, models=models, seconds_without_inference=seconds)
    await enqueue(conn, said, uuid5(receipt["ritual"], f"{said.subject}/{receipt['fence']}"), {})
    SECONDS_WITHOUT_INFERENCE.labels(anvil.name).inc(seconds)
    log.info(
        "inference restored",
        anvil=anvil.name,
        ritual=str(receipt["ritual"]),
        seconds_without_inference=round(seconds, 1),
    )
