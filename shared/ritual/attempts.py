"""Attempts at the GPU work: what follows when one did not get to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed

if TYPE_CHECKING:
    from shared.contracts.job import JobResult
    from shared.contracts.message import Fact
    from shared.ritual.ledger import Ritual


def unfinished(ritual: Ritual, result: JobResult, failures: int, max_attempts: int) -> Fact:
    """Pure: the fact to state about GPU work that ended without what it was for, after so many `failures` before it.

    A job that stopped because it was asked to has not failed; a permanent error or one failure too many is the end.
    """
    reason = result.error or "the job gave no reason"
    if result.interrupted:
        return GpuInterrupted(**ritual.key, reason=reason, asked=True)
    if result.permanent:
        return AdapterFailed(**ritual.key, reason=reason)
    if failures + 1 >= max_attempts:
        return AdapterFailed(**ritual.key, reason=f"{reason}; given up after {failures + 1} attempts")
    return GpuInterrupted(**ritual.key, reason=reason)
