"""The supervisor's lock and state on disk: one supervisor per home, which ends what a killed one left running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.embedded.part import PartStatus
from shared.contracts.frozen import Frozen
from shared.processes.files import read_record, try_lock, write_record
from shared.processes.identity import ProcessIdentity, alive, identify, send, wait_ended
from shared.processes.tree import kill


class LockError(Exception):
    """The home has a running supervisor, or processes that survive SIGKILL; the message names the pid."""


class SupervisorState(Frozen):
    """The last supervisor of a home, and its parts in the order of their start."""

    supervisor: ProcessIdentity
    parts: dict[str, PartStatus]


def write_state(home: Path, parts: dict[str, PartStatus]) -> None:
    """Record the status of all parts, and this process as their supervisor."""
    if me := identify(os.getpid()):
        write_record(_file(home), SupervisorState(supervisor=me, parts=parts))


def read_living(home: Path) -> SupervisorState | None:
    """The state of the running supervisor; None when none runs."""
    state = read_record(_file(home), SupervisorState)
    return state if state and alive(state.supervisor) else None


@contextmanager
def lock(home: Path) -> Iterator[list[str]]:
    """Hold the lock of `home`, after ending what a killed supervisor left running; yields a line for each part ended.

    Raises LockError when another supervisor runs or something survives. Blocks. The kernel releases the lock with this
    process, however it ends; parts do not inherit it.
    """
    with try_lock(home / "supervisor.lock") as alone:
        if not alone:
            other = read_living(home)
            holder = f"pid {other.supervisor.pid}" if other else "a process that is just starting"
            raise LockError(f"{home} is supervised by {holder}: stop that one first")
        left = read_record(_file(home), SupervisorState)
        parts = left.parts if left else {}
        with suppress(OSError):  # on a full disk the former record stays, which names the same parts
            write_state(home, parts)
        ended = [line for name, part in reversed(parts.items()) if (line := _end(name, part))]
        with suppress(OSError):
            write_state(home, {})
        yield ended


def _end(name: str, part: PartStatus) -> str | None:
    if part.tree is None or not (left := part.tree.processes()):
        return None
    leader = part.tree.leader
    if leader and send(leader, part.stop_signal):
        wait_ended(leader, part.grace_s)
    pids = ", ".join(str(pid) for pid in sorted(process.pid for process in left))
    if not kill(part.tree.processes):
        raise LockError(f"{name}: of the processes {pids} some survive SIGKILL; see /proc/<pid>/stack")
    return f"{name}: ended what a killed supervisor left running (pid {pids})"


def _file(home: Path) -> Path:
    return home / "supervisor.json"
