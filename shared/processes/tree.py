"""A tree of processes: its start, every process of it, its end."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from shared.contracts.frozen import Frozen
from shared.processes.identity import PROC, ProcessIdentity, alive, boot_id, living, send, stat

Processes = set[ProcessIdentity]
MARKER = "SOULFORGE_PROCESS"
POLL_S = 0.02
KILL_S = 10.0
KIB = 1024


class ProcessTree(Frozen):
    """A process tree that can be found again after its starter died.

    Each process has `token` in its environment. A process may overwrite its environment (setproctitle does), hence also
    the session of `leader`, the first process, and the `members` seen last, each with its descendants.
    """

    token: str
    leader: ProcessIdentity | None = None
    members: tuple[ProcessIdentity, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The variables to add to the environment of its first process."""
        return {MARKER: self.token}

    def processes(self) -> Processes:
        """Find every living process of the tree. Blocks for milliseconds."""
        mark = f"{MARKER}={self.token}".encode()
        roots = {member for member in self.members if alive(member)} | _select(lambda pid: mark in _environment(pid))
        if self.leader:
            roots |= _session(self.leader)
        return roots.union(*(descendants(root) for root in roots))


async def start_process(command: tuple[str, ...], cwd: Path, env: Mapping[str, str], log: Path) -> Process:
    """Start a process as the leader of a session, without input; its output is added to `log`. Raises OSError."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=env, stdin=DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def children(root: ProcessIdentity) -> Processes:
    """The living children of `root`; empty when it is gone."""
    return _below(root, recursive=False)


def descendants(root: ProcessIdentity) -> Processes:
    """The living descendants of `root`, without it; empty when it is gone."""
    return _below(root, recursive=True)


def _below(root: ProcessIdentity, recursive: bool) -> Processes:
    if not alive(root):
        return set()
    try:
        found = psutil.Process(root.pid).children(recursive)
    except psutil.NoSuchProcess:
        return set()
    return {one for child in found if (one := living(child.pid))}


def send_all(processes: Iterable[ProcessIdentity], number: signal.Signals) -> bool:
    """Signal each of `processes`. False when all of them are gone."""
    reached = [send(process, number) for process in processes]
    return any(reached)


def kill(find: Callable[[], Processes], within_s: float = KILL_S) -> bool:
    """SIGKILL what `find` finds until it finds nothing. False when something outlives `within_s`. Blocks."""
    deadline = time.monotonic() + within_s
    while processes := find():
        send_all(processes, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def resident_bytes(processes: Iterable[ProcessIdentity]) -> int:
    """Sum of resident sets. Pages that several processes share count once for each of them."""
    return sum(_resident(process) for process in processes)


def proportional_bytes(processes: Iterable[ProcessIdentity]) -> int:
    """Sum of proportional set sizes: pages that several processes share count once. Takes a second per 50 GiB or so."""
    return sum(_proportional(process) for process in processes)


def _resident(process: ProcessIdentity) -> int:
    try:
        return psutil.Process(process.pid).memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def _proportional(process: ProcessIdentity) -> int:
    """See smaps_rollup in proc(5). A process can hide it from other users, but never its resident set."""
    try:
        lines = (PROC / str(process.pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return _resident(process)
    sizes = [int(line.split()[1]) * KIB for line in lines if line.startswith("Pss:")]
    return sum(sizes)


def _select(chosen: Callable[[int], bool]) -> Processes:
    return {found for pid in psutil.pids() if chosen(pid) and (found := living(pid))}


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def _session(leader: ProcessIdentity) -> Processes:
    # While a session has members its id is not given to a new process: a leader that is another process
    # proves that the recorded session is over.
    holder = living(leader.pid)
    if leader.boot_id != boot_id() or (holder and holder != leader):
        return set()
    return _select(lambda pid: (seen := stat(pid)) is not None and seen.session == leader.pid)
