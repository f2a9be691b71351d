"""The inference port: what an engine that serves a base model and adapters can do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.frozen import Frozen

# Retry-After for clients of a closed engine, where no better estimate is known.
RETRY_AFTER_S = 30.0
# The header of a request that an engine works on only while nobody else asks it.
PRIORITY_HEADER, LOW_PRIORITY = "x-soulforge-priority", "low"


class PromptMessage(Frozen):
    """One message of a chat request."""

    role: str
    content: str


class TokenChoice(Frozen):
    """One token of an answer: log-probabilities of the likeliest ones at its place, by id."""

    likeliest: dict[int, float] = Field(min_length=2)

    def lead(self, token: int) -> float:
        """The log-probability of a token minus that of the best other one; at most that, where it is not among the likeliest."""
        others = [value for other, value in self.likeliest.items() if other != token]
        return self.likeliest.get(token, min(others)) - max(others)


class InferenceError(Exception):
    """The engine refused or did not answer; the message names the request."""


class Admission(BaseModel):
    """Whether the gate before an engine admits new requests, and its counts, from the start of the gateway on."""

    model_config = ConfigDict(frozen=True)

    state: Literal["open", "closed"]
    reason: str | None = None
    since: str | None = None
    in_flight: int = Field(description="Requests admitted and not answered to their last byte.")
    low_priority: int = Field(0, description="Those of them that end as soon as anybody else asks.")
    waiting: int = Field(0, description="Requests that wait in the gateway until it opens.")
    refused_total: int = 0
    admitted_total: int = 0
    aborted: int = Field(0, description="Requests that an abort has ended.")

    @property
    def closed(self) -> bool:
        return self.state == "closed"

    @property
    def detail(self) -> str:
        return f"closed since {self.since}: {self.reason}" if self.closed else "the gate is open"


class Activity(Frozen):
    """The load of an engine now, by its own metrics, and by the counts of the gate before it where that answers."""

    running: int  #: requests in execution batches
    waiting: int  #: requests queued in the engine
    finished_total: int  #: requests finished since its start
    in_flight: int | None = None  #: requests admitted and not answered to their last byte; None without a gate
    admitted_total: int | None = None  #: requests admitted since the start of the gateway; None without a gate

    @property
    def left(self) -> int:
        """Requests that are not finished: in flight, or without a gate those that the engine holds."""
        return max(self.running + self.waiting, self.in_flight or 0)


class Serving(Protocol):
    """The serving side of a running engine. Every call has a deadline and raises InferenceError when it passes."""

    async def healthy(self) -> bool:
        """True when the engine answers; never raises."""
        ...

    async def models(self) -> frozenset[str]:
        """Every name that can be asked for: the base and the loaded adapters."""
        ...

    async def load(self, name: str, path: Path) -> None:
        """Load the adapter at `path` under `name`; does nothing where that name is loaded.

        A name must never be used for other weights: engines cache by name. Success is not proof: probe it.
        """
        ...

    async def unload(self, name: str) -> None:
        """Forget the name of an adapter; does nothing where it is not loaded. Requests under way on it go on.

        The weights stay in the engine's caches until others need the place.
        """
        ...

    async def answer(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int, salt: str | None = None
    ) -> str:
        """The greedy answer of `model`. With a `salt` it is computed without anything cached under another salt."""
        ...

    async def answer_tokens(
        self, model: str, messages: tuple[PromptMessage, ...], max_tokens: int
    ) -> tuple[TokenChoice, ...]:
        """The tokens of the greedy answer of `model`, with its end mark where that was reached."""
        ...

    async def activity(self) -> Activity:
        """What the engine is doing now, by its own metrics. One idle reading proves nothing: read twice."""
        ...


class Sleeping(Protocol):
    """An engine that can free its memory without its end. Deadlines and errors as in `Serving`."""

    async def sleep(self, level: int) -> None:
        """Free the device memory but keep the process. Close and drain first: it waits for requests in flight.

        Level 1 keeps the weights in main memory, 2 drops them. Success is not proof: on a CPU vLLM reports success and
        frees nothing. Measure.
        """
        ...

    async def wake(self, level: int) -> None:
        """Undo `sleep` of that level. Success is not proof: adapters may answer as the base. Probe them, or load again."""
        ...


class Inference(Serving, Sleeping, Protocol):
    """A running engine, as the orchestrator that owns it uses it."""


class AdmissionControl(Protocol):
    """Control over which requests reach an engine and are finished.

    Every call has a deadline and raises InferenceError where the gate does not answer, or is before no such engine.
    """

    async def admission(self) -> Admission:
        """Whether new requests are admitted now."""
        ...

    async def close(self, reason: str, retry_after_s: float = RETRY_AFTER_S) -> Admission:
        """Admit no new requests from now on; those in flight continue. Clients are shown the reason. Repeatable."""
        ...

    async def open(self) -> Admission:
        """Admit new requests again. Repeatable."""
        ...

    async def abort(self) -> int:
        """Abort the requests in flight and return how many. Repeatable. The engine stops computing them a moment later."""
        ...
