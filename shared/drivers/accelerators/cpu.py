"""The processor as an accelerator: its memory is what the rune's processes hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class CpuAccelerator:
    """Resident memory, as `measure` finds it at each look: the tree of the rune, with whoever survived its stop."""

    description = "CPU"

    def __init__(self, measure: Callable[[], Awaitable[int]]) -> None:
        self._measure = measure

    async def used_bytes(self) -> int:
        return await self._measure()

    async def processes(self) -> tuple[int, ...]:
        """None: whoever else computes on a processor does not keep it from anybody."""
        return ()
