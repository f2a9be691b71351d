"""The registry in a process of its own, which ends by SIGKILL just after the n-th effect that it has.

Effects are its start, writes to the database, ends of transactions that wrote, loads and unloads of an engine, and the bundle on
the disk. A kill anywhere else is the same as one after the effect before it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from services.registry.decisions import decide
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.config.model import Configuration
from shared.config.settings import Settings
from shared.contracts.registry import AdapterDecide, RecallAction
from shared.drivers.inference.vllm import Vllm
from shared.runtime.context import ServiceContext
from shared.storage.postgres import open_pool

WITHIN_S = 180.0  # with the real engine on a busy machine
READS = ("SELECT", "SET", "RESET", "BEGIN")


@dataclass(frozen=True)
class Work:
    """What the process does: a decision first where one is `asked`, then a pass of the registry."""

    settings: Settings
    configuration: Configuration
    on_recall: RecallAction = "warn"
    asked: AdapterDecide | None = None


def run_killed(work: Work, place: int, note: Path) -> str | None:
    """Do the work, killed at its `place`-th effect; returns where that was, or None where it came to its end before."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_main, args=(work, place, str(note)))
    process.start()
    process.join(WITHIN_S)
    if process.exitcode == 0:
        return None
    assert process.exitcode == -signal.SIGKILL, f"the registry ended with {process.exitcode}"
    return note.read_text()


def _main(work: Work, place: int, note: str) -> None:
    killer = Killer(place, Path(note))
    for name in ("execute", "fetchrow", "fetchval"):
        _wrap(PoolConnectionProxy, name, killer.wrote)
    _wrap(Transaction, "__aexit__", killer.committed)
    for name in ("load", "unload"):
        _wrap(Vllm, name, lambda *_, name=name: killer.done(f"engine {name}"))
    _wrap(asyncio, "to_thread", lambda _, work, *__: killer.done("freeze") if work.__name__ == "freeze" else None)
    killer.done("start")
    asyncio.run(_work(work))


class Killer:
    """Counts effects, and kills this process at one of them."""

    def __init__(self, place: int, note: Path) -> None:
        self._left, self._note, self._wrote = place, note, False

    def done(self, effect: str) -> None:
        if self._left == 0:
            self._note.write_text(effect)
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def wrote(self, result: object, _: object, statement: str, *__: object) -> None:
        words = statement.split()
        if words[0] not in READS and result is not None and not str(result).endswith(" 0"):
            self._wrote = True
            named = [word for word in words[1:] if word.replace(".", "").isidentifier()]
            self.done(f"{words[0]} {' '.join(named[:2])}")

    def committed(self, *_: object) -> None:
        if self._wrote:
            self._wrote = False
            self.done("commit")


def _wrap(owner: Any, name: str, report: Callable[..., None]) -> None:
    """Report every call with its result once it is done."""
    original = getattr(owner, name)

    async def wrapped(*given: Any, **named: Any) -> Any:
        result = await original(*given, **named)
        report(result, *given)
        return result

    setattr(owner, name, wrapped)


async def _work(work: Work) -> None:
    pool = await open_pool(work.settings.database_url("registry"), "registry")
    context = ServiceContext("registry", work.settings, pool, None, work.configuration)  # type: ignore[arg-type]
    if work.asked:
        async with pool.acquire() as conn, conn.transaction():
            await decide(conn, work.asked)
    service = Registry(context, RegistrySettings(on_recall=work.on_recall))
    await service.reconcile()
    await pool.close()
