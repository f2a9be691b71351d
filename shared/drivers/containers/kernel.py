"""The Linux calls that Python 3.11 does not offer: namespaces, mounts, capabilities, process attributes."""

from __future__ import annotations

import ctypes
import os
import signal
from enum import IntFlag
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

# <linux/prctl.h>, <linux/capability.h>, <linux/mount.h>
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
HIGHEST_CAPABILITY = 63
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
SYS_MOUNT_SETATTR = 442
AT_FDCWD = -100
AT_RECURSIVE = 0x8000


class Namespace(IntFlag):
    """CLONE_NEW* of <linux/sched.h>."""

    MOUNT = 0x00020000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


class MountAttr(IntFlag):
    """MOUNT_ATTR_* of <linux/mount.h>."""

    NONE = 0
    READ_ONLY = 1
    NO_SUID = 2
    NO_DEV = 4


def unshare(namespaces: Namespace) -> None:
    _check(LIBC.unshare(ctypes.c_int(namespaces)), f"unshare {namespaces!r}")


def mount_private() -> None:
    """Mounts made from here on stay in this mount namespace."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)


def mount_new(kind: str, target: Path, options: str = "") -> None:
    _mount(kind, str(target), kind, MountAttr.NO_SUID | MountAttr.NO_DEV, options)


def mount_bind(source: Path, target: Path) -> None:
    _mount(str(source), str(target), None, MS_BIND | MS_REC)


def mount_attributes(target: Path, add: MountAttr, clear: MountAttr, recursive: bool) -> None:
    """Change attributes of a mount, see mount_setattr(2); Linux 5.12 and newer."""
    attributes = (ctypes.c_uint64 * 4)(int(add), int(clear), 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    result = LIBC.syscall(
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_long(AT_FDCWD),
        str(target).encode(),
        ctypes.c_long(flags),
        ctypes.byref(attributes),
        ctypes.c_long(ctypes.sizeof(attributes)),
    )
    _check(result, f"mount_setattr {target}")


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """SIGKILL this process when its parent dies. `parent` is its pid: it may have died before."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def drop_privileges() -> None:
    """Give up every capability, and the means of getting one back: see capabilities(7)."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _drop_bounding_set()
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(LIBC.capset(ctypes.byref(header), ctypes.byref(nothing)), "capset")


def _drop_bounding_set() -> None:
    for capability in range(HIGHEST_CAPABILITY + 1):
        try:
            _prctl(PR_CAPBSET_DROP, capability)
        except PermissionError:
            return  # An ordinary user holds none, and no_new_privs keeps it so.
        except OSError:
            return  # One past the last that this kernel knows.


def _prctl(option: int, argument: int) -> None:
    unused = ctypes.c_ulong(0)
    _check(LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), unused, unused, unused), f"prctl {option}")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    result = LIBC.mount(
        source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    _check(result, f"mount {source} on {target}")


def _check(result: int, what: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
