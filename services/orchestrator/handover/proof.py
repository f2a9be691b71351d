"""Prove by measurement that an anvil is free."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.config.model import AnvilConfig
    from shared.drivers.accelerators.port import Accelerator

POLL_S = 0.25


class UnprovenError(Exception):
    """The anvil could not be proven free; the message names what occupies it and what to do."""


class Occupant(Protocol):
    """A rune that has to leave the anvil."""

    name: str

    async def gone(self) -> bool: ...


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
