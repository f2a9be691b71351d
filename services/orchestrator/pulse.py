"""How much an anvil's runes are asked, from a look at each of them every few seconds."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from services.orchestrator.scheduling.load import History, Pulse, together
from shared.drivers.inference.port import InferenceError

if TYPE_CHECKING:
    from services.orchestrator.engine import Rune


class PulseTaker:
    """Remembers what it saw of each rune at each look; begins anew with the process."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}

    async def look(self, runes: tuple[Rune, ...]) -> None:
        for rune in runes:
            try:
                seen = await rune.inference.activity()
            except InferenceError:
                seen = None
            self._histories[rune.name] = self._histories.get(rune.name, History()).look(monotonic(), seen)

    def pulse(self) -> Pulse:
        """That of all runes together; unknown before the first look."""
        now = monotonic()
        return together([history.pulse(now) for history in self._histories.values()])
