"""Stages 2 and 5, the hand-over of the anvil: evacuation, and restoration after the GPU work. Stated by the orchestrator."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from shared.contracts.message import Fact, Message


class GpuEvacuated(Fact):
    """The anvil's memory was measured free and is leased to the ritual. Memory in bytes."""

    subject: ClassVar[str] = "gpu.evacuated"
    step: ClassVar[str] = "evacuate"

    anvil: str
    fence: int
    memory_before: int
    memory_after: int
    device: str


class GpuRefused(Fact):
    """The anvil could not be freed; inference is restored and nothing was trained."""

    subject: ClassVar[str] = "gpu.refused"
    step: ClassVar[str] = "evacuate"

    anvil: str
    reason: str


class GpuRestored(Fact):
    """Inference serves again. `seconds_without_inference` counts from the stop to the first healthy answer."""

    subject: ClassVar[str] = "gpu.restored"
    step: ClassVar[str] = "restore"

    anvil: str
    seconds_without_inference: float


class GpuInterrupted(Fact):
    """The GPU work of this attempt was lost (a lost lease, a killed job); the ritual waits for another attempt."""

    subject: ClassVar[str] = "gpu.interrupted"
    step: ClassVar[str] = "interrupt"

    reason: str


class InferenceSuspended(Message):
    """The anvil's local models do not answer from now on; route elsewhere."""

    subject: ClassVar[str] = "inference.suspended"

    anvil: str
    ritual: UUID
    reason: str
    models: tuple[str, ...]


class InferenceResumed(Message):
    """The anvil's local models answer again."""

    subject: ClassVar[str] = "inference.resumed"

    anvil: str
    models: tuple[str, ...]
    seconds_without_inference: float
