"""Which process a pid meant when it was written down: the pid, its start time and the boot it belongs to.

A pid alone is reused; nothing here, or in whoever uses it, ends a process by name.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

from shared.contracts.frozen import Frozen

PROC = Path("/proc")
DEAD = ("Z", "X", "x")


class ProcessIdentity(Frozen):
    """One process for all time. `start_ticks` is field 22 of /proc/<pid>/stat (see proc(5))."""

    pid: int
    start_ticks: int
    boot_id: str


class Stat(NamedTuple):
    """The fields of /proc/<pid>/stat that tell processes apart and place them in a tree."""

    state: str
    parent: int
    session: int
    start_ticks: int


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """What the kernel says of `pid`, a process or one that only waits to be reaped; None when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return Stat(state=fields[0], parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of whoever has `pid` now, even if it only waits to be reaped; None when nobody has it."""
    found = stat(pid)
    return found and ProcessIdentity(pid=pid, start_ticks=found.start_ticks, boot_id=boot_id())


def living(pid: int) -> ProcessIdentity | None:
    """The identity of the process that runs under `pid` now."""
    found = identify(pid)
    return found if found and alive(found) else None


def alive(identity: ProcessIdentity) -> bool:
    """Whether exactly that process still runs."""
    found = stat(identity.pid)
    return (
        found is not None
        and found.state not in DEAD
        and found.start_ticks == identity.start_ticks
        and identity.boot_id == boot_id()
    )


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal exactly that process. False when it is gone; a pid that was reused is never hit."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(identity):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True
