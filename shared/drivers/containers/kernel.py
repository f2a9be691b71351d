"""The Linux calls that Python 3.11 does not offer: subreapers, and mounts that map the owner of files."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

# <linux/prctl.h>, <linux/mount.h>, <linux/sched.h>; the numbers of these calls are the same on every architecture.
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_NOSUID_NODEV = 2 | 4
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_MOUNT_SETATTR = 442
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_IDMAP = 0x00100000


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's."""
    unused = ctypes.c_ulong(0)
    _check(LIBC.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), unused, unused, unused), "prctl")


def enter_private_mounts() -> None:
    """Enter a mount namespace of its own: what is mounted from here on is seen by this process and its children only."""
    _check(LIBC.unshare(CLONE_NEWNS), "unshare")
    _check(LIBC.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount /")


def mount_tmpfs(target: Path) -> None:
    flags = ctypes.c_ulong(MS_NOSUID_NODEV)
    _check(LIBC.mount(b"tmpfs", str(target).encode(), b"tmpfs", flags, b"mode=755"), f"mount {target}")


def open_tree(source: Path) -> int:
    """A descriptor of a copy of the mounts at `source`, to be attached elsewhere."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    tree: int = LIBC.syscall(SYS_OPEN_TREE, AT_FDCWD, str(source).encode(), flags)
    return _check(tree, str(source))


def map_owner(tree: int, owners: int) -> None:
    """Map the owners of the files of `tree` as the user namespace `owners` does; see mount_setattr(2).

    Raises OSError, with EINVAL where the file system cannot do that.
    """
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_IDMAP, 0, 0, owners)
    size = ctypes.c_long(ctypes.sizeof(attributes))
    flags = AT_EMPTY_PATH | AT_RECURSIVE
    _check(LIBC.syscall(SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes), size), "mount_setattr")


def attach(tree: int, target: Path) -> None:
    """Mount what `open_tree` opened."""
    path = str(target).encode()
    _check(LIBC.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH), f"move_mount {target}")


def open_owner_map(inside: int, outside: int) -> int:
    """A descriptor of a user namespace that maps the user and group `inside` to `outside`. Needs root."""
    ready, ready_end = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            _check(LIBC.unshare(CLONE_NEWUSER), "unshare")
            os.write(ready_end, b"1")
            signal.pause()
        os._exit(1)
    os.close(ready_end)
    try:
        if not os.read(ready, 1):
            raise OSError("this system grants root no user namespace")
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text(f"{inside} {outside} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _check(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
