"""The walls of an isolated container: namespaces, the view of the file system, no capability.

Called in a forked child of the shim. With a PID namespace a small first process stays behind as its init:
it reaps, and when it dies the kernel ends everything in the namespace.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, NoReturn

from shared.drivers.containers.kernel import (
    MountAttr,
    Namespace,
    die_with_parent,
    drop_privileges,
    mount_attributes,
    mount_new,
    mount_private,
    unshare,
)
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.view import arrange

ROOT = Path("/")
HIGHEST_DESCRIPTOR = 1 << 16
ALWAYS = ("process-group", "environment")


class Walls(NamedTuple):
    """Which namespaces this system grants. An ordinary user needs one of users first."""

    user: bool
    pid: bool

    @property
    def namespaces(self) -> Namespace:
        chosen = Namespace.NET | Namespace.MOUNT | Namespace.IPC
        if self.user:
            chosen |= Namespace.USER
        return chosen | Namespace.PID if self.pid else chosen


BEST_FIRST = (
    Walls(user=False, pid=True),
    Walls(user=True, pid=True),
    Walls(user=False, pid=False),
    Walls(user=True, pid=False),
)


def permitted() -> Walls | None:
    """The best walls that this system lets this user build, found by building them once; None for no namespaces."""
    return next((walls for walls in BEST_FIRST if _possible(walls)), None)


def isolation(isolated: bool, walls: Walls | None) -> tuple[str, ...]:
    """What in fact separates a container from the rest."""
    if not isolated:
        return ALWAYS
    if walls is None:
        return (*ALWAYS, "capabilities")
    separate = (*ALWAYS, "network", "filesystem", "ipc", "capabilities")
    return (*separate, "pid") if walls.pid else separate


def enter(spec: ContainerSpec, walls: Walls | None, shim: int, verdict: int) -> None:
    """Put this process behind `walls`, in a PID namespace a grandchild of it. Returns where the payload is executed.

    The init of a PID namespace writes the payload's exit code to the descriptor `verdict`. Whatever stands between
    dies with the process `shim`. Raises OSError when a wall cannot be built.
    """
    # No process of the jail may hold a way around the covers: neither a working directory nor a descriptor.
    os.chdir(ROOT)
    if walls is None:
        drop_privileges()
        return
    _separate(walls)
    if walls.pid:
        die_with_parent(shim)
        _leave_behind(_relay, keep=())
        mount_new("proc", Path("/proc"))
    arrange(spec)
    drop_privileges()
    # Parents outside a PID namespace are seen as 0.
    die_with_parent(0 if walls.pid else shim)
    if walls.pid:
        _leave_behind(lambda payload: _reap(payload, verdict), keep=(verdict,))


def _possible(walls: Walls) -> bool:
    trial = os.fork()
    if trial == 0:
        try:
            _separate(walls)
            mount_attributes(ROOT, MountAttr.READ_ONLY, MountAttr.NONE, recursive=True)
            if walls.pid:
                _leave_behind(_relay, keep=())
                mount_new("proc", Path("/proc"))
            mount_new("tmpfs", Path("/tmp"))
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


def _separate(walls: Walls) -> None:
    uid, gid = os.getuid(), os.getgid()
    unshare(walls.namespaces)
    if walls.user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    mount_private()


def _leave_behind(stay: Callable[[int], NoReturn], keep: tuple[int, ...]) -> None:
    """Go on as a child of this process, which stays to watch that child with only the descriptors `keep`."""
    child = os.fork()
    if child == 0:
        return
    edges = (2, *sorted(keep), HIGHEST_DESCRIPTOR)
    for low, high in pairwise(edges):
        os.closerange(low + 1, high)
    stay(child)


def _relay(init: int) -> NoReturn:
    # SIGTERM goes to the whole group and is meant for the payload.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
    if code < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code)


def _reap(payload: int, verdict: int) -> NoReturn:
    while True:
        pid, status = os.wait()
        if pid == payload:
            os.write(verdict, str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
