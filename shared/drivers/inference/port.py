"""The inference port: what an engine that serves a base model and adapters can do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from shared.contracts.frozen import Frozen

# Retry-After that a closed engine sends to its clients.
RETRY_AFTER_S = 30.0


class PromptMessage(Frozen):
    """One message of a chat request."""

    role: str
    content: str


class InferenceError(Exception):
    """The engine refused or did not answer; the message names the request."""


class Means(StrEnum):
    """How admission to an engine is governed."""

    GATE = "gate"  #: our gate in its process: refuses, counts, aborts cleanly
    PAUSE = "pause"  #: the engine's own pause: new requests wait inside it, without an answer
    NONE = "none"  #: none: new requests are accepted as long as it runs


class Admission(Frozen):
    """Whether new requests are admitted. `closed` is the state now, not the one requested."""

    closed: bool
    means: Means
    detail: str


class Activity(Frozen):
    """The load of an engine now."""

    running: int  #: requests in execution batches
    waiting: int  #: requests queued in the engine
    finished_total: int  #: requests finished since its start, without those that a gate aborted
    in_flight: int | None = None  #: requests admitted and not answered to their last byte; None without a gate
    admitted_total: int | None = None  #: requests admitted since its start; None without a gate
    refused_total: int | None = None  #: requests refused since its start; None without a gate

    @property
    def left(self) -> int:
        """Requests that are not finished: in flight, or without a gate those that the engine holds."""
        return max(self.running + self.waiting, self.in_flight or 0)


class Serving(Protocol):
    """The serving side of a running engine. Every call has a deadline and raises InferenceError when it passes."""

    async def healthy(self) -> bool:
        """True when the engine answers; never raises. A closed engine is healthy."""
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
        """The greedy answer of `model`. With a `salt` it is computed without anything cached under another salt.

        A closed engine answers only requests from inside.
        """
        ...

    async def activity(self) -> Activity:
        """What the engine is doing now. One idle reading proves nothing: ask twice, or use `drain`."""
        ...


class AdmissionControl(Protocol):
    """Control over which requests an engine accepts and finishes. Deadlines and errors as in `Serving`."""

    async def admission(self) -> Admission:
        """Whether new requests are admitted now."""
        ...

    async def close(self, reason: str, retry_after_s: float = RETRY_AFTER_S) -> Admission:
        """Refuse new requests from now on; those in flight continue. Clients are shown the reason. Repeatable.

        Returns at once. An engine that cannot close is reported in the return value, not raised.
        """
        ...

    async def open(self) -> Admission:
        """Admit new requests again. Repeatable."""
        ...

    async def drain(self, grace_s: float) -> int:
        """Wait until no request is in flight, at most `grace_s`; returns how many are left, 0 when it is idle.

        With a grace of 0 it checks once. Close first: an open engine may never drain.
        """
        ...

    async def abort(self) -> int:
        """Abort the requests in flight and return how many; 0 where the engine has no way to abort. Repeatable.

        The engine stops computing them a moment later: `drain` for a second or two proves it.
        """
        ...

    async def leave(self) -> bool:
        """Last call before the process is stopped, once closed and idle: answer open connections, accept no new one.

        Clients that connect afterwards are refused when the process is gone, and none is cut off by its end. Stop the
        process at once: it cannot be reached, and after 30 seconds it accepts connections again, still closed. False
        where the engine has no way to do so or is not closed; stopping it may then reset a connection or two.
        """
        ...

    async def sleep(self, level: int) -> None:
        """Free the device memory but keep the process. Close and drain first: it waits for requests in flight.

        Level 1 keeps the weights in main memory, 2 drops them. Success is not proof: on a CPU vLLM reports success and
        frees nothing. Measure.
        """
        ...

    async def wake(self, level: int) -> None:
        """Undo `sleep` of that level. Success is not proof: adapters may answer as the base. Probe them, or load again."""
        ...


class Inference(Serving, AdmissionControl, Protocol):
    """A running engine, as the orchestrator that owns it uses it."""
