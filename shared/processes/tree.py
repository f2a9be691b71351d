"""Finding every process of a container or part, and ending it: by descent, by session, by a recorded token."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable

import psutil

from shared.processes.identity import PROC, ProcessIdentity, alive, boot_id, living, send, stat

Family = set[ProcessIdentity]
POLL_S = 0.02


def descendants(root: ProcessIdentity) -> Family:
    """Every living process below `root`, without it; empty when it is gone."""
    if not alive(root):
        return set()
    try:
        children = psutil.Process(root.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    return {found for child in children if (found := living(child.pid))}


def survivors(token: str, leader: ProcessIdentity | None, known: Iterable[ProcessIdentity]) -> Family:
    """What is left of a tree whose guardian died, so that descent alone does not find it.

    `token` is the `NAME=value` in the environment of every member. A process may overwrite its environment
    (setproctitle does), hence also the session of `leader` and the `known` members, each with all below it.
    """
    roots = {one for one in known if alive(one)} | _bearing(token)
    if leader and leader.boot_id == boot_id():
        roots |= _session(leader)
    return roots.union(*(descendants(root) for root in roots))


def below_init(family: Family, first: int) -> Family:
    """`family` without the two processes that hold a PID namespace together: `first` and its child, the init."""
    return {member for member in family if member.pid != first and (seen := stat(member.pid)) and seen.parent != first}


def resident_bytes(family: Iterable[ProcessIdentity]) -> int:
    """Sum of resident sets. Pages that several processes share count once for each of them."""
    total = 0
    for member in family:
        try:
            total += psutil.Process(member.pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def end(find: Callable[[], Family], within_s: float) -> bool:
    """SIGKILL what `find` finds until it finds nothing. False when something outlives `within_s`. Blocks."""
    deadline = time.monotonic() + within_s
    while family := find():
        for member in family:
            send(member, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _bearing(token: str) -> Family:
    return {found for pid in _pids() if _bears(pid, token.encode()) and (found := living(pid))}


def _bears(pid: int, token: bytes) -> bool:
    try:
        return token in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _session(leader: ProcessIdentity) -> Family:
    # While a session has members its id is not given to a new process: a leader that is another process
    # proves that the recorded session is over.
    holder = living(leader.pid)
    if holder and holder != leader:
        return set()
    members = [pid for pid in _pids() if (seen := stat(pid)) and seen.session == leader.pid]
    return {found for pid in members if (found := living(pid))}
