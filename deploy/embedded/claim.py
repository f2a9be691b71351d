"""One supervisor for one home: the lock that a killed one cannot keep, and the end of what it left running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded.records import Records, Started
from shared.processes.files import try_lock
from shared.processes.identity import alive, identify, send, wait_ended
from shared.processes.tree import kill

KILL_S = 10.0


class ClaimError(Exception):
    """The home belongs to a running supervisor, or cannot be cleaned; the message names the pid."""


@contextmanager
def claim(home: Path) -> Iterator[None]:
    """Hold `home` as its only supervisor. Raises ClaimError when another one does.

    The kernel releases the lock with the process, however it ends; parts do not inherit it.
    """
    records = Records(home)
    with try_lock(records.lock) as alone:
        if not alone:
            raise ClaimError(_occupied(home, records))
        if me := identify(os.getpid()):
            records.supervise(me)
        yield


def clean(home: Path) -> list[str]:
    """End what a killed supervisor of `home` left running, by recorded identity; says what it ended. Blocks.

    Call it while holding the claim. Raises ClaimError while another supervisor lives or when something survives.
    """
    records = Records(home)
    supervisor = records.supervisor()
    if supervisor and supervisor.pid != os.getpid() and alive(supervisor):
        raise ClaimError(_occupied(home, records))
    ended = [line for part in records.started() if (line := _end(part))]
    for part in records.started():
        records.end(part.name)
    return ended


def _end(part: Started) -> str | None:
    left = part.tree.processes()
    if not left:
        return None
    leader = part.tree.leader
    if leader and send(leader, part.stop_signal):
        wait_ended(leader, part.grace_s)
    pids = ", ".join(str(member.pid) for member in sorted(left, key=lambda member: member.pid))
    if not kill(part.tree.processes, KILL_S):
        raise ClaimError(f"{part.name}: of the processes {pids} some survive SIGKILL; see /proc/<pid>/stack")
    return f"{part.name}: ended what a killed supervisor left running (pid {pids})"


def _occupied(home: Path, records: Records) -> str:
    holder = records.supervisor()
    who = f"pid {holder.pid}" if holder else "a process that is just starting"
    return f"{home} is supervised by {who}: stop that one first"
