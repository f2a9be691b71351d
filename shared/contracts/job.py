"""What a service and its job exchange in files: progress lines and the result envelope.

A job reads `job.json`, appends to `progress.jsonl`, and writes `result.json` last, by atomic rename.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import Field

from shared.contracts.frozen import Frozen

PROGRESS_FILE = "progress.jsonl"
RESULT_FILE = "result.json"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 75  #: EX_TEMPFAIL of sysexits.h: stopped on request
WALLS = frozenset({"network", "filesystem"})  #: without these in its `isolation`, a job ran unisolated

Count = Annotated[int, Field(ge=0, lt=2**63)]  # a job may write any number


class Progress(Frozen):
    """Progress of a job. `loss` is nats per trained token; `eta_s` seconds.

    Of a training run also `tokens` seen so far without padding; `dev_loss`, the last that was measured; `energy_j`, by the
    device's own counter, where it has one; and `memory_bytes`: the peak, of the device where there is one.
    A line of the phase `checkpoint` is about one of so many steps, with its dev loss; that of 0 steps is the base.
    """

    phase: str
    done: Count
    total: Count
    unit: str
    loss: float | None = None
    eta_s: float | None = None
    tokens: Count | None = None
    tokens_per_s: float | None = None
    learning_rate: float | None = None
    memory_bytes: Count | None = None
    dev_loss: float | None = None
    energy_j: float | None = None


class JobSpan(Frozen):
    """One timed step inside a job or a stage; a job has no network, so its service exports it."""

    name: str
    start_ns: Count
    end_ns: Count
    attributes: dict[str, str | int | float | bool] = Field(default_factory=dict)


class JobResult(Frozen):
    """The envelope of `result.json`. `error` is what went wrong and what to do; `permanent`: a retry is useless.

    `interrupted` marks a job that stopped on request after saving a checkpoint, `out_of_memory` one that could get no more.
    """

    ok: bool
    error: str | None = None
    permanent: bool = False
    interrupted: bool = False
    out_of_memory: bool = False
    spans: tuple[JobSpan, ...] = ()
    result: dict[str, Any] = Field(default_factory=dict, description="What the job measured: a model of its service.")


def is_unisolated(isolation: Collection[str]) -> bool:
    """Whether a job with this isolation ran without walls; False where its isolation is not known."""
    held = set(isolation)
    return bool(held) and not held >= WALLS


def isolation_text(isolation: Collection[str]) -> str:
    """The isolation of a job for people: its walls, or that it had none."""
    held = ", ".join(isolation)
    return f"UNISOLATED: only {held}" if is_unisolated(isolation) else held
