"""The inference port: what an engine that serves a base model and adapters can do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from shared.contracts.frozen import Frozen

# What clients are told to wait before they ask a closed engine again.
RETRY_AFTER_S = 30.0


class Turn(Frozen):
    """One message of a chat request."""

    role: str
    content: str


class InferenceError(Exception):
    """The engine refused or did not answer; the message says what it was asked."""


class Means(StrEnum):
    """How admission to an engine is governed."""

    GATE = "gate"  #: our gate in its process: refuses, counts, aborts cleanly
    PAUSE = "pause"  #: the engine's own pause: new requests wait inside it, nobody is told anything
    NONE = "none"  #: not at all: new requests are taken as long as it runs


class Admission(Frozen):
    """Whether new requests are let in. `closed` is what holds now, not what was asked for."""

    closed: bool
    means: Means
    detail: str


class Activity(Frozen):
    """What an engine is doing now."""

    running: int  #: requests in execution batches
    waiting: int  #: requests queued in the engine
    finished_total: int  #: requests that ended since its start; those that a gate aborted are not among them
    in_flight: int | None = None  #: requests accepted and not answered to their last byte; None without a gate
    admitted_total: int | None = None  #: requests let in since its start; None without a gate
    refused_total: int | None = None  #: requests refused since its start; None without a gate

    @property
    def left(self) -> int:
        """Requests that are not over: what its clients still wait for, or what the engine still works at."""
        return max(self.running + self.waiting, self.in_flight or 0)


class Inference(Protocol):
    """A running engine. Every call has a deadline and raises InferenceError when it passes."""

    async def healthy(self) -> bool:
        """True when the engine answers; never raises. A closed engine is healthy."""
        ...

    async def models(self) -> frozenset[str]:
        """Every name that can be asked for: the base and the loaded adapters."""
        ...

    async def load(self, name: str, path: Path) -> None:
        """Load the adapter at `path` under `name`; loading a loaded name again is fine.

        A name must never be used for other weights: engines cache by name. Success is not proof: probe it.
        """
        ...

    async def answer(self, model: str, turns: tuple[Turn, ...], max_tokens: int, salt: str | None = None) -> str:
        """The greedy answer of `model`; with a `salt` computed anew, from nothing that was cached under another.

        A closed engine answers only those who are inside.
        """
        ...

    async def activity(self) -> Activity:
        """What it is doing now. Idle is what stays idle: ask twice, or use `drain`."""
        ...

    async def admission(self) -> Admission:
        """Whether new requests are let in now."""
        ...

    async def close(self, reason: str, retry_after_s: float = RETRY_AFTER_S) -> Admission:
        """Refuse new requests from now on; what is under way goes on. Clients are shown the reason. May be repeated.

        Returns at once. That an engine has no way to close is said in the answer, not raised.
        """
        ...

    async def open(self) -> Admission:
        """Admit new requests again. May be repeated."""
        ...

    async def drain(self, grace_s: float) -> int:
        """Wait until nothing is under way, at most `grace_s`; returns how many requests are left, 0 when it is idle.

        With a grace of 0 it looks once. Close first: an open engine may never drain.
        """
        ...

    async def abort(self) -> int:
        """End what is under way and return how many requests that were; 0 where the engine has no way to. May be repeated.

        The engine lets go a moment later: `drain` for a second or two proves it.
        """
        ...

    async def leave(self) -> bool:
        """Last call before the process is ended, once closed and idle: answer every connection, let no new one begin.

        Who connects afterwards is refused when the process is gone, and nobody is cut off by its end. End it at once:
        it cannot be reached any more, and after 30 seconds it lets connections in again, still closed. False where it
        has no way to or is not closed; the end may then reset a connection or two.
        """
        ...

    async def sleep(self, level: int) -> None:
        """Give device memory back but keep the process; close and drain first, what is under way is waited for.

        Level 1 keeps the weights in main memory, 2 drops them. Success is not proof: on a CPU vLLM says yes and
        frees nothing. Measure.
        """
        ...

    async def wake(self, level: int) -> None:
        """Undo `sleep` of that level. Success is not proof: adapters may answer as the base. Probe them, or load again."""
        ...
