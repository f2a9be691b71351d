"""What a job waits for, and until when: shown as it is, and an event for each kind of reason, once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.gateway.jobs.store import Event

if TYPE_CHECKING:
    from services.gateway.jobs.store import Job

NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Wait:
    """`reason`: whom or what it waits for; `until`: when that ends at the latest, where it is known."""

    reason: str
    until: datetime | None = None


@dataclass(frozen=True)
class WaitChange:
    events: list[Event]
    columns: dict[str, Any]


def wait_changes(job: Job, wait: Wait | None) -> WaitChange | None:
    """What is to be recorded of it; None where it is recorded."""
    reason, until = (wait.reason, wait.until) if wait else (None, None)
    if (reason, until) == (job.waits_for, job.waits_until):
        return None
    events = []
    if reason:
        text = f"Waits for {reason}" + (f", until {until:%Y-%m-%d %H:%M} UTC" if until else "")
        # The figures in a reason change all the time.
        events = [Event(f"waits/{NUMBER.sub('#', reason)}", text)]
    return WaitChange(events, {"waits_for": reason, "waits_until": until})
