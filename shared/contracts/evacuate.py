"""Stages 2 and 5, the hand-over of the anvil: evacuation, and restoration after the GPU work. Recorded by the orchestrator."""

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
    drained: int = Field(0, description="Requests in flight that were answered in full.")
    aborted: int = Field(0, description="Requests in flight that were aborted when the grace was over.")
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

    `asked`: it stopped because the anvil was reclaimed, which does not count as a failure. Nor does an attempt that was
    not `started`: no job was found when its lease had expired.
    """

    subject: ClassVar[str] = "gpu.interrupted"
    step: ClassVar[str] = "interrupt"

    reason: str
    asked: bool = False
    started: bool = True
    rows_at_once: int | None = Field(
        None, ge=1, description="Of a training that ran out of memory: how many rows it had there. No failure either."
    )
    isolation: tuple[str, ...] = Field((), description="As in `adapter.forged`; empty where no job is known.")


class GpuReclaim(Message):
    """Reclaim the anvil now: the running job saves a checkpoint, inference is restored, the ritual waits.

    The newest reclaim counts: a shorter `hold_s` shortens an earlier one, and 0 ends it.
    """

    subject: ClassVar[str] = "gpu.reclaim"

    anvil: str | None = Field(None, description="Name of the anvil; default: the one that training uses.")
    hold_s: float = Field(600.0, ge=0, le=7 * 24 * 3600, description="Seconds during which no ritual may take it.")
    why: str = Field("", max_length=2000)


class GpuAccept(Message):
    """Accept a contained anvil that serves but answers differently than before a hand-over."""

    subject: ClassVar[str] = "gpu.accept"

    anvil: str | None = Field(None, description="Name of the anvil; default: the one that training uses.")
    why: str = Field("", max_length=2000)


class GpuContained(Message):
    """An alarm: restoring the anvil failed repeatedly. No ritual takes it until it serves."""

    subject: ClassVar[str] = "gpu.contained"

    anvil: str
    reason: str
    failures: int


class InferenceSuspended(Message):
    """The anvil's local models stop answering now; route requests elsewhere."""

    subject: ClassVar[str] = "inference.suspended"

    anvil: str
    ritual: UUID
    reason: str
    models: tuple[str, ...]
    expected_s: float | None = Field(
        None, description="Expected duration in seconds, estimated from earlier hand-overs."
    )


class InferenceResumed(Message):
    """The anvil's local models answer again."""

    subject: ClassVar[str] = "inference.resumed"

    anvil: str
    models: tuple[str, ...]
    seconds_without_inference: float
