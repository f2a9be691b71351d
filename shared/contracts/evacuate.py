"""Stages 2 and 5, the hand-over of the anvil: evacuation, and restoration after the GPU work. Stated by the orchestrator."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.job import JobSpan
from shared.contracts.message import Fact, Message


class GpuEvacuated(Fact):
    """The anvil's memory was measured free and is leased to the ritual. Memory in bytes; `spans` are the steps it took."""

    subject: ClassVar[str] = "gpu.evacuated"
    step: ClassVar[str] = "evacuate"

    anvil: str
    fence: int
    memory_before: int
    memory_after: int
    device: str
    drained: int = Field(0, description="Requests that were under way and got their whole answer.")
    aborted: int = Field(0, description="Requests that were ended because the grace was over.")
    spans: tuple[JobSpan, ...] = ()


class GpuRefused(Fact):
    """The anvil could not be freed; inference is restored and nothing was trained."""

    subject: ClassVar[str] = "gpu.refused"
    step: ClassVar[str] = "evacuate"

    anvil: str
    reason: str


class GpuRestored(Fact):
    """Inference serves again. `seconds_without_inference` counts from the closing of admission to its opening.

    `probes_equal`: every model answers a fixed prompt as it did before; null where it could not be asked before.
    """

    subject: ClassVar[str] = "gpu.restored"
    step: ClassVar[str] = "restore"

    anvil: str
    seconds_without_inference: float
    memory_restored: int | None = None
    probes_equal: bool | None = None
    missing: tuple[str, ...] = Field((), description="Models that answered before and do not now.")
    spans: tuple[JobSpan, ...] = ()


class GpuInterrupted(Fact):
    """The GPU work of this attempt ended early (a lost lease, a killed job); the ritual waits for another attempt.

    `asked`: it stopped because somebody wanted the anvil back, which is no failure and does not count as one.
    """

    subject: ClassVar[str] = "gpu.interrupted"
    step: ClassVar[str] = "interrupt"

    reason: str
    asked: bool = False


class GpuReclaim(Message):
    """Asks for the anvil back, now: the job under way saves a checkpoint, inference returns, the ritual waits."""

    subject: ClassVar[str] = "gpu.reclaim"

    anvil: str | None = Field(
        None, description="Which one; where it is left out, the anvil on which training takes place."
    )
    hold_s: float = Field(600.0, ge=0, le=7 * 24 * 3600, description="Seconds in which no ritual takes it again.")
    why: str = Field("", max_length=2000)


class GpuAccept(Message):
    """Says that a contained anvil which serves, but answers otherwise than before a hand-over, is well as it is."""

    subject: ClassVar[str] = "gpu.accept"

    anvil: str | None = Field(
        None, description="Which one; where it is left out, the anvil on which training takes place."
    )
    why: str = Field("", max_length=2000)


class GpuContained(Message):
    """An alarm: the anvil does not serve and restoring it failed again and again. No ritual takes it until it serves."""

    subject: ClassVar[str] = "gpu.contained"

    anvil: str
    reason: str
    failures: int


class InferenceSuspended(Message):
    """The anvil's local models do not answer from now on; route elsewhere."""

    subject: ClassVar[str] = "inference.suspended"

    anvil: str
    ritual: UUID
    reason: str
    models: tuple[str, ...]
    expected_s: float | None = Field(None, description="How long it may be away, from the hand-overs before.")


class InferenceResumed(Message):
    """The anvil's local models answer again."""

    subject: ClassVar[str] = "inference.resumed"

    anvil: str
    models: tuple[str, ...]
    seconds_without_inference: float
