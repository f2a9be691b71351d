"""Stage 3, forge: a manifest becomes an adapter. Stated by the forge; a failure by whoever owns the stage that failed."""

from __future__ import annotations

from typing import Any, ClassVar

from shared.contracts.job import JobSpan
from shared.contracts.message import Fact


class AdapterForged(Fact):
    """An adapter was trained and lies in the run's directory. `training` holds the trainer's own figures."""

    subject: ClassVar[str] = "adapter.forged"
    step: ClassVar[str] = "forge"
    job: ClassVar[str | None] = "trainer"

    adapter: str
    path: str
    base: str
    recipe: str
    fence: int
    training: dict[str, Any]
    spans: tuple[JobSpan, ...] = ()
    isolation: tuple[str, ...] = ()


class AdapterFailed(Fact):
    """The ritual ends without an adapter that serves; `reason` says what went wrong and what to do."""

    subject: ClassVar[str] = "adapter.failed"
    step: ClassVar[str] = "fail"

    reason: str
