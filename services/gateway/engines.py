"""The engines that take adapters: what each has loaded, whether its gate is open, and the requests that it works on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from services.gateway.gates import Gates
from services.gateway.metrics import IN_FLIGHT
from shared.drivers.inference.open import open_rune
from shared.drivers.inference.port import InferenceError

if TYPE_CHECKING:
    from services.gateway.closed import Closed
    from services.gateway.gates import Gate
    from services.gateway.in_flight import InFlight
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
    gate: Gate
    context_limit: int  #: longest request, in tokens
    models: frozenset[str] = frozenset()
    answers: bool = False
    failures: int = 0  #: polls in a row without an answer: one that is busy may be late

    @property
    def closed(self) -> Closed | None:
        """Why no request is sent to it."""
        return self.gate.closed

    @property
    def in_flight(self) -> int:
        return len(self.gate.requests)

    async def poll(self) -> bool:
        """Ask it; True where something changed."""
        before = self.models, self.answers
        try:
            self.models, self.answers = await self.inference.models(), True
        except UNREADABLE:
            self.failures += 1
            if self.failures >= GONE_AFTER:
                self.mark_gone()
        else:
            self.failures = 0
        return before != (self.models, self.answers)

    def mark_gone(self) -> None:
        """Ask nothing of it until a poll is answered."""
        self.models, self.answers = frozenset(), False

    @contextmanager
    def working(self, request: InFlight) -> Iterator[None]:
        """Admit a request, and count it until its client has the answer's last byte. Raises Refusal, as `Gate.admit`."""
        self.gate.admit(request)
        IN_FLIGHT.labels(self.rune).set(self.in_flight)
        try:
            yield
        finally:
            self.gate.leave(request)
            IN_FLIGHT.labels(self.rune).set(self.in_flight)


class Engines:
    """Every engine that takes adapters, of every base."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        bases = {
            name: rune.base_name for name, rune in configuration.runes.items() if rune.takes_adapters and rune.base_name
        }
        self.gates = Gates(settings.home, bases)
        self.gates.changed = self.report_change
        self.all = [
            Engine(
                name,
                base,
                configuration.rune_url(settings, name),
                open_rune(configuration, settings, name),
                self.gates.by_rune[name],
                configuration.runes[name].max_model_len,
            )
            for name, base in bases.items()
        ]
        self.changed = asyncio.Event()  #: set, and replaced, when one may answer that could not before
        self.on_change: Callable[[], None] = lambda: None
        self.bases = frozenset(engine.base for engine in self.all)
        self.base_of = configuration.base_of
        self._anvil_of = configuration.anvil_of
        self._polling: asyncio.Task[None] | None = None
        self._polled_at = 0.0

    async def poll(self) -> None:
        """Ask every engine; callers at the same time share one poll."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        await asyncio.shield(self._polling)

    async def _poll(self) -> None:
        if any(await asyncio.gather(*(engine.poll() for engine in self.all))):
            self.report_change()
        self._polled_at = monotonic()

    @property
    def polled(self) -> bool:
        """Whether every engine was asked since the start."""
        return self._polled_at > 0

    async def close_held(self, anvils: Collection[str]) -> None:
        """Close the engines of anvils that are held, unless they were commanded since the start."""
        await self.gates.close_held({engine.rune for engine in self.all if self._anvil_of(engine.rune) in anvils})

    def report_change(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        self.on_change()

    async def choose(self, model: str, tried: Collection[Engine] = ()) -> Engine | None:
        """The open engine with the least work that has `model`; None where none has it. Its request is to be admitted at once."""
        if found := self.find(model, tried):
            return found
        if monotonic() - self._polled_at > SOONEST_S:  # it may have been loaded since
            await self.poll()
        return self.find(model, tried)

    def find(self, model: str, tried: Collection[Engine]) -> Engine | None:
        """As `choose`, by what the last poll found."""
        having = [engine for engine in self.having(model) if engine not in tried]
        # A request of low priority ends as soon as another one comes.
        return min(having, key=lambda engine: engine.gate.asked, default=None)

    def having(self, model: str) -> list[Engine]:
        """The open engines that have `model`."""
        return [engine for engine in self.all if model in engine.models and not engine.closed]

    def answering(self, persona: str | None, model: str) -> bool:
        """Whether an open engine of the persona's base answers; without a persona, of the base `model`."""
        return any(engine.answers and not engine.closed for engine in self._of(persona, model))

    def closed(self, persona: str | None, model: str) -> Engine | None:
        """The closed engine of that base that is expected first; None where one is open."""
        engines = self._of(persona, model)
        closed = [(engine.closed.left_s(), engine.rune, engine) for engine in engines if engine.closed]
        return min(closed)[2] if len(closed) == len(engines) and closed else None

    def _of(self, persona: str | None, model: str) -> list[Engine]:
        base = self.base_of(persona) if persona else model
        return [engine for engine in self.all if engine.base == base]

    def loaded(self) -> frozenset[str]:
        """The models that some engine has."""
        return frozenset[str]().union(*(engine.models for engine in self.all))
