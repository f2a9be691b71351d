"""The inference port: what an engine that serves a base model and adapters can do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from shared.contracts.frozen import Frozen


class Turn(Frozen):
    """One message of a chat request."""

    role: str
    content: str


class InferenceError(Exception):
    """The engine refused or did not answer; the message says what it was asked."""


class Inference(Protocol):
    """A running engine. Every call has a deadline and raises InferenceError when it passes."""

    async def healthy(self) -> bool:
        """True when the engine answers; never raises."""
        ...

    async def models(self) -> frozenset[str]:
        """Every name that can be asked for: the base and the loaded adapters."""
        ...

    async def load(self, name: str, path: Path) -> None:
        """Load the adapter at `path` under `name`; loading a loaded name again is fine.

        A name must never be used for other weights: engines cache by name. Success is not proof: probe it.
        """
        ...

    async def answer(self, model: str, turns: tuple[Turn, ...], max_tokens: int) -> str:
        """The greedy answer of `model`."""
        ...
