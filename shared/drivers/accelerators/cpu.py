"""The processor as an accelerator: its memory is what the process trees of the runes hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from shared.drivers.containers.identity import living
from shared.drivers.containers.tree import Family, descendants, resident_bytes

Pids = Callable[[], Awaitable[Iterable[int]]]


class CpuAccelerator:
    """Resident memory of the trees below the pids that `roots` names at each look."""

    description = "CPU"

    def __init__(self, roots: Pids) -> None:
        self._roots = roots

    async def used_bytes(self) -> int:
        roots = await self._roots()
        return await asyncio.to_thread(lambda: resident_bytes(_trees(roots)))

    async def processes(self) -> tuple[int, ...]:
        family = await asyncio.to_thread(_trees, await self._roots())
        return tuple(sorted(member.pid for member in family))


def _trees(roots: Iterable[int]) -> Family:
    found = {root for pid in roots if (root := living(pid))}
    return found.union(*(descendants(root) for root in found))
