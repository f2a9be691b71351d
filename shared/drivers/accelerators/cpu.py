"""The CPU as an accelerator: its used memory is the resident memory of the rune's processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class CpuAccelerator:
    """Resident memory as `measure` finds it at each call: the rune's process tree, with survivors of its stop."""

    description = "CPU"

    def __init__(self, measure: Callable[[], Awaitable[int]]) -> None:
        self._measure = measure

    async def used_bytes(self) -> int:
        return await self._measure()

    async def processes(self) -> tuple[int, ...]:
        """None: other processes on a CPU do not keep it from being used."""
        return ()
