"""Identity of a process: its pid, its start time and the boot it belongs to.

A pid alone is reused. Nothing here, and no caller of it, ends a process by name.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from shared.contracts.frozen import Frozen

PROC = Path("/proc")
DEAD = ("Z", "X", "x")


class ProcessIdentity(Frozen):
    """A process, identified uniquely. `start_ticks` is field 22 of /proc/<pid>/stat (see proc(5))."""

    pid: int
    start_ticks: int
    boot_id: str


class Stat(NamedTuple):
    """The fields of /proc/<pid>/stat that distinguish processes and place them in a tree."""

    state: str
    parent: int
    session: int
    start_ticks: int


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """Read /proc/<pid>/stat, also of a zombie; None when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return Stat(state=fields[0], parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process with `pid`, also of a zombie; None when there is none."""
    found = stat(pid)
    return found and ProcessIdentity(pid=pid, start_ticks=found.start_ticks, boot_id=boot_id())


def living(pid: int) -> ProcessIdentity | None:
    """The identity of the process that runs as `pid` now; None for a zombie or none."""
    found = identify(pid)
    return found if found and alive(found) else None


def alive(identity: ProcessIdentity) -> bool:
    """True while exactly that process runs."""
    found = stat(identity.pid)
    return (
        found is not None
        and found.state not in DEAD
        and found.start_ticks == identity.start_ticks
        and identity.boot_id == boot_id()
    )


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal exactly that process. False when it is gone; a pid that was reused is never hit."""
    with _handle(identity) as handle:
        if handle is None:
            return False
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
    return True


def wait_ended(identity: ProcessIdentity, within_s: float) -> bool:
    """Wait until exactly that process has ended. False when it outlives `within_s`. Blocks."""
    with _handle(identity) as handle:
        if handle is None:
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(within_s * 1000))


@contextmanager
def _handle(identity: ProcessIdentity) -> Iterator[int | None]:
    """Open a descriptor of exactly that process; None when it is gone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle if alive(identity) else None
    finally:
        os.close(handle)
