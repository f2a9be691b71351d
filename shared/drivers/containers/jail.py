"""The walls of an isolated container: namespaces, the view of the file system, no capability.

Called in a forked child of the shim. With a PID namespace a small first process stays behind as its init:
it reaps, and when it dies the kernel ends everything in the namespace.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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


def enter(spec: ContainerSpec, walls: Walls | None, verdict: int, keep: tuple[int, ...]) -> None:
    """Put this process behind `walls`, in a PID namespace a child of it. Returns where the payload is to be executed.

    The init of a PID namespace writes the payload's exit code to the descriptor `verdict`. `keep` are the
    descriptors that the payload's side needs. Raises OSError when a wall cannot be built.
    """
    os.chdir(ROOT)
    if walls is None:
        drop_privileges()
        return
    die_with_parent(os.getppid())
    _separate(walls)
    if walls.pid:
        _fork(lambda: _relay(verdict), keep=(verdict, *keep))
        mount_new("proc", Path("/proc"))
    arrange(spec)
    drop_privileges()
    if walls.pid:
        _fork(lambda: _reap(verdict), keep=keep)


def _separate(walls: Walls) -> None:
    uid, gid = os.getuid(), os.getgid()
    unshare(walls.namespaces)
    if walls.user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    mount_private()


def _fork(stay: Callable[[int], None], keep: tuple[int, ...]) -> None:
    raise NotImplementedError
