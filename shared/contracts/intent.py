"""Requests by anyone on the bus: train a persona, cancel a ritual; and the progress of a ritual's job."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.karma import PERSONA_PATTERN
from shared.contracts.message import Fact, Message
from shared.contracts.moment import Moment


class TrainingIntent(Message):
    """Request a ritual. Only `persona` is required: `{"persona": "scribe"}` is a complete intent.

    Intents with the same `id` open one ritual. The default id is the `Nats-Msg-Id` header, else the place in the stream.
    """

    subject: ClassVar[str] = "training.intent"

    persona: str = Field(pattern=PERSONA_PATTERN, description="Persona whose consecrated karma is trained on.")
    id: str | None = Field(None, min_length=1, max_length=200, description="The publisher's own id of this intent.")
    priority: int = Field(5, ge=0, le=9, description="Higher goes first among waiting rituals.")
    recipe: str = Field("default", pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$", description="Name of a shipped recipe.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the training run.")
    kinds: tuple[str, ...] = Field((), max_length=50, description="Only karma of these kinds; empty: all.")
    since: Moment | None = Field(None, description="Only karma created at or after this time.")
    until: Moment | None = Field(None, description="Only karma created at or before this time: the high-water mark.")
    deadline: Moment | None = Field(None, description="When inference should serve again after the ritual.")
    query: str = Field("", max_length=2000, description="Only karma whose embedding is near that of this text.")
    query_likeness: float = Field(0.3, ge=-1, le=1, description="Least cosine similarity to the query.")
    requested_by: str = Field("", max_length=200, description="Who requests it.")
    why: str = Field("", max_length=2000, description="Reason for the request.")


class RitualCancel(Message):
    """Cancel a ritual. It stops at its next safe point."""

    subject: ClassVar[str] = "ritual.cancel"

    ritual: UUID
    why: str = Field("", max_length=2000)


class RitualCancelled(Fact):
    """The ritual was cancelled by its owner; its files are kept in the Lab."""

    subject: ClassVar[str] = "ritual.cancelled"
    step: ClassVar[str] = "cancel"

    why: str = ""


class RitualProgress(Message):
    """Progress of a ritual's running job. Published on core NATS: lossy by nature, never stored."""

    subject: ClassVar[str] = "ritual.progress"

    ritual: UUID
    persona: str
    job: str
    phase: str
    done: int
    total: int
    unit: str
    loss: float | None = None
    eta_s: float | None = None
