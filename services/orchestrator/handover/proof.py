"""The proof that an anvil is free: measured, never believed."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.configuration.model import AnvilConfig
    from shared.drivers.accelerators.port import Accelerator

POLL_S = 0.25


class UnprovenError(Exception):
    """The anvil could not be proven free; the message says what holds it and what to do."""


class Leaver(Protocol):
    """Whoever was to leave the anvil."""

    name: str

    async def gone(self) -> bool: ...


async def proven_free(
    accelerator: Accelerator, config: AnvilConfig, leavers: Sequence[Leaver], sleeps: bool = False
) -> int:
    """Used bytes once nothing speaks against the anvil being free. Raises UnprovenError when the time for that is over.

    `sleeps`: somebody keeps a process there on purpose, so that only the memory tells.
    """
    deadline = monotonic() + config.free_within_s
    while found := await objections(accelerator, config, leavers, sleeps):
        if monotonic() > deadline:
            raise UnprovenError("; ".join(found))
        await asyncio.sleep(POLL_S)
    return await accelerator.used_bytes()


async def objections(
    accelerator: Accelerator, config: AnvilConfig, leavers: Sequence[Leaver], sleeps: bool = False
) -> list[str]:
    """What speaks against the anvil being free, as measured now."""
    found = [f"rune {leaver.name} still runs" for leaver in leavers if not await leaver.gone()]
    used, limit = await accelerator.used_bytes(), config.free_below
    if used > limit:
        found.append(
            f"{used} bytes are still in use after the runes left, {limit} is the limit: find who holds them and intend again"
        )
    if not sleeps and (processes := await accelerator.processes()):
        found.append(f"processes {', '.join(map(str, processes))} compute on the device: end them and intend again")
    return found
