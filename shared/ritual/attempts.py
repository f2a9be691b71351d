"""Attempts at the GPU work: which fact follows from one that did not succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed

if TYPE_CHECKING:
    from shared.contracts.job import JobResult
    from shared.contracts.message import Fact
    from shared.ritual.ledger import Ritual


def unfinished(
    ritual: Ritual,
    result: JobResult,
    failures: int,
    max_attempts: int,
    started: bool = True,
    isolation: tuple[str, ...] = (),
) -> Fact:
    """The fact to record about GPU work that ended without a result, after so many `failures` before it. Pure.

    A job that stopped on request has not failed; a permanent error or one failure too many ends the ritual.
    """
    reason = result.error or "the job gave no reason"
    if result.interrupted:
        return GpuInterrupted(**ritual.key, reason=reason, asked=True, isolation=isolation)
    if result.permanent:
        return AdapterFailed(**ritual.key, reason=reason, isolation=isolation)
    if failures + 1 >= max_attempts:
        given_up = f"{reason}; given up after {failures + 1} attempts"
        return AdapterFailed(**ritual.key, reason=given_up, isolation=isolation)
    return GpuInterrupted(**ritual.key, reason=reason, started=started, isolation=isolation)
