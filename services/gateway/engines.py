"""The engines that take adapters: what each has loaded, whether it admits requests, and how many it works on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from services.gateway.metrics import IN_FLIGHT
from shared.drivers.inference.open import open_rune
from shared.drivers.inference.port import InferenceError

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings
    from shared.drivers.inference.port import Inference

POLL_S = 1.0
SOONEST_S = 0.2  # between two polls that requests cause
GONE_AFTER = 3
UNREADABLE = (InferenceError, ValueError, LookupError, TypeError)
log = structlog.get_logger()


@dataclass(eq=False)
class Engine:
    """One engine as it answered last."""

    rune: str
    base: str
    url: str
    inference: Inference
    models: frozenset[str] = frozenset()
    answers: bool = False
    admits: bool = False
    in_flight: int = 0
    failures: int = 0  #: polls in a row without an answer: one that is busy may be late

    async def poll(self) -> None:
        try:
            models = await self.inference.models()
            admits = not (await self.inference.admission()).closed
        except UNREADABLE:
            self.failures += 1
            if self.failures >= GONE_AFTER:
                self.mark_gone()
        else:
            self.models, self.answers, self.admits, self.failures = models, True, admits, 0

    def mark_gone(self) -> None:
        """Ask nothing of it until a poll is answered."""
        self.models, self.answers, self.admits = frozenset(), False, False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a request while the engine works on it."""
        self.in_flight += 1
        IN_FLIGHT.labels(self.rune).set(self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            IN_FLIGHT.labels(self.rune).set(self.in_flight)


class Engines:
    """Every engine that takes adapters, of every base."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self.all = [
            Engine(
                name, rune.base_name, configuration.rune_url(settings, name), open_rune(configuration, settings, name)
            )
            for name, rune in configuration.runes.items()
            if rune.takes_adapters and rune.base_name
        ]
        self.bases = frozenset(engine.base for engine in self.all)
        self.base_of = configuration.base_of
        self._polling: asyncio.Task[None] | None = None
        self._polled_at = 0.0

    async def poll(self) -> None:
        """Ask every engine; callers at the same time share one poll."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        await asyncio.shield(self._polling)

    async def _poll(self) -> None:
        await asyncio.gather(*(engine.poll() for engine in self.all))
        self._polled_at = monotonic()

    async def choose(self, model: str, tried: Collection[Engine] = ()) -> Engine | None:
        """The engine with the least work that has `model`, one that admits requests if there is any; None where none has it."""
        if found := self.find(model, tried):
            return found
        if monotonic() - self._polled_at > SOONEST_S:  # it may have been loaded since
            await self.poll()
        return self.find(model, tried)

    def find(self, model: str, tried: Collection[Engine]) -> Engine | None:
        """As `choose`, by what the last poll found."""
        having = [engine for engine in self.all if model in engine.models and engine not in tried]
        return min(having, key=lambda engine: (not engine.admits, engine.in_flight), default=None)

    def answering(self, persona: str | None, model: str) -> bool:
        """Whether an engine of the persona's base answers; without a persona, of the base `model`."""
        base = self.base_of(persona) if persona else model
        return any(engine.answers for engine in self.all if engine.base == base)

    def loaded(self) -> frozenset[str]:
        """The models that some engine has."""
        return frozenset[str]().union(*(engine.models for engine in self.all))
