"""Requests by anyone on the bus: train a persona; pause, resume, cancel a ritual; and the progress of a ritual's job."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field, model_validator

from shared.contracts.frozen import Frozen
from shared.contracts.karma import PERSONA_PATTERN
from shared.contracts.message import Fact, Message
from shared.contracts.moment import Moment

MOST_REFINEMENTS = 2  #: rituals that refine a banished one, those that refine such a ritual included
SourceName = Annotated[str, Field(max_length=200)]  #: the view `public.karma_source` counts no longer ones


class RecipeOverrides(Frozen):
    """Values that one ritual takes in place of its recipe's. What is null stays as the recipe has it."""

    epochs: float | None = Field(None, gt=0, le=100, description="Passes over the training rows.")
    batch_size: int | None = Field(None, gt=0, le=256, description="Rows a step.")
    learning_rate_multiplier: float | None = Field(
        None, ge=0.001, le=10, description="Peak learning rate, as a multiple of the recipe's."
    )
    beta: float | None = Field(None, gt=0, le=2, description="Nearness to the base, of a recipe with loss dpo or kto.")
    replay: float | None = Field(
        None, ge=0, le=1, description="Share of the base's own answers, of a recipe with loss sft."
    )


class Refinement(Frozen):
    """A gentler recipe for what was banished, and why. `requested`: an intent with it is published."""

    recipe: str
    overrides: RecipeOverrides
    why: str
    requested: bool = False

    @property
    def text(self) -> str:
        """`recipe default, epochs 1, replay 0.3 (general lost 4.0 points); a ritual with it is requested`."""
        requested = "; a ritual with it is requested" if self.requested else ""
        return f"recipe {recipe_text(self.recipe, self.overrides)} ({self.why}){requested}"


class TrainingIntent(Message):
    """Request a ritual. Only `persona` is required: `{"persona": "scribe"}` is a complete intent.

    Intents with the same `id` open one ritual. The default id is the `Nats-Msg-Id` header, else the place in the stream.
    """

    subject: ClassVar[str] = "training.intent"

    persona: str = Field(pattern=PERSONA_PATTERN, description="Persona whose consecrated karma is trained on.")
    id: str | None = Field(None, min_length=1, max_length=200, description="The publisher's own id of this intent.")
    priority: int = Field(5, ge=0, le=9, description="Higher goes first among waiting rituals.")
    recipe: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$", description="Name of a recipe, shipped or the owner's."
    )
    overrides: RecipeOverrides | None = Field(None, description="Values in place of the recipe's.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the training run.")
    kinds: tuple[str, ...] = Field((), max_length=50, description="Only karma of these kinds; empty: all.")
    sources: tuple[SourceName, ...] = Field(
        (), max_length=50, description="Only karma of these sources, besides `dev_sources`; empty: all."
    )
    dev_sources: tuple[SourceName, ...] = Field(
        (),
        max_length=50,
        description="Karma of these sources is the dev split and is never trained. Empty: a share of all, by hash.",
    )
    since: Moment | None = Field(None, description="Only karma created at or after this time.")
    until: Moment | None = Field(None, description="Only karma created at or before this time: the high-water mark.")
    refines: UUID | None = Field(
        None, description="The banished ritual that this one refines, of the same persona: at most two refine one."
    )
    deadline: Moment | None = Field(None, description="When inference should serve again after the ritual.")
    query: str = Field("", max_length=2000, description="Only karma whose embedding is near that of this text.")
    query_likeness: float = Field(0.3, ge=-1, le=1, description="Least cosine similarity to the query.")
    requested_by: str = Field("", max_length=200, description="Who requests it.")
    why: str = Field("", max_length=2000, description="Reason for the request.")

    @model_validator(mode="after")
    def trains_no_dev_source(self) -> TrainingIntent:
        if both := sorted({*self.sources} & {*self.dev_sources}):
            raise ValueError(f"{', '.join(both)}: in sources and in dev_sources, but what is in dev is never trained")
        return self

    @property
    def recipe_text(self) -> str:
        return recipe_text(self.recipe, self.overrides)


def recipe_text(recipe: str, overrides: RecipeOverrides | None) -> str:
    """The recipe with what is changed of it: `default, epochs 3`."""
    changed = overrides.model_dump(exclude_none=True) if overrides else {}
    return ", ".join([recipe, *(f"{name} {value:g}" for name, value in changed.items())])


class RitualCancel(Message):
    """Cancel a ritual. It stops at its next safe point."""

    subject: ClassVar[str] = "ritual.cancel"

    ritual: UUID
    why: str = Field("", max_length=2000)


class RitualPause(Message):
    """Pause a ritual: it takes no anvil, and one that it holds it leaves with a checkpoint, as at a reclaim.

    The newest of `ritual.pause` and `ritual.resume` counts, by its time in the stream.
    """

    subject: ClassVar[str] = "ritual.pause"

    ritual: UUID
    why: str = Field("", max_length=2000)
    by: str = Field("", max_length=200, description="Who pauses it.")


class RitualResume(Message):
    """Resume a paused ritual: it waits for the anvil again, and continues from its checkpoint."""

    subject: ClassVar[str] = "ritual.resume"

    ritual: UUID
    why: str = Field("", max_length=2000)
    by: str = Field("", max_length=200, description="Who resumes it.")


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
    tokens: int | None = None
    tokens_per_s: float | None = None
    learning_rate: float | None = None
    memory_bytes: int | None = None
    dev_loss: float | None = None
    energy_j: float | None = None
