"""The system calls that a job never needs, as a seccomp filter for bubblewrap.

Everything else is allowed: torch, CUDA and NCCL use calls that change from version to version. Where a program falls
back to an older call it gets ENOSYS, as from an old kernel; elsewhere EPERM. Calls of foreign architectures (i386, x32)
end the process.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator

import pyseccomp as seccomp
from pyseccomp import EQ, GT, MASKED_EQ, Arg

Rule = tuple[int, str | int, tuple[Arg, ...]]

# Calls newer than the installed libseccomp have no name there; from 424 on numbers are the same on every architecture.
FCHMODAT2, OPEN_TREE_ATTR = 452, 467

REFUSED: tuple[str | int, ...] = (
    *("mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree"),
    *(OPEN_TREE_ATTR, "move_mount", "mount_setattr", "setns", "swapon", "swapoff", "quotactl", "acct"),
    *("keyctl", "add_key", "request_key"),
    *("bpf", "perf_event_open", "ptrace", "userfaultfd", "kcmp", "fanotify_init"),
    *("kexec_load", "kexec_file_load", "reboot", "init_module", "finit_module", "delete_module", "syslog"),
    *("name_to_handle_at", "open_by_handle_at", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("sethostname", "setdomainname", "iopl", "ioperm", "vhangup", "nfsservctl", "lookup_dcookie"),
)
# clone3 and openat2 pass their arguments where no filter can read them. Memory of memfd_create, of vmsplice and of the
# IPC of System V and POSIX need not be mapped: no sample would count it.
UNKNOWN: tuple[str | int, ...] = (
    *("clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("memfd_create", "memfd_secret", "vmsplice", "shmget", "msgget", "semget", "mq_open"),
)
# CLONE_NEW* of <linux/sched.h>: time, mount, cgroup, uts, ipc, user, pid, network.
NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
# torch.distributed needs Unix sockets and the loopback; getifaddrs asks NETLINK_ROUTE, protocol 0.
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
IOCTL_MASK = 0xFFFFFFFF  # the kernel reads only these bits
# Where the mode of a new or old file is among the arguments.
MODE_AT: tuple[tuple[str | int, int], ...] = (
    *(("chmod", 1), ("fchmod", 1), ("fchmodat", 2), (FCHMODAT2, 2)),
    *(("creat", 1), ("mknod", 1), ("mknodat", 2)),
)
# Where the flags are; the mode follows them and counts only where a file may be made.
FLAGS_AT = (("open", 1), ("openat", 2))
O_TMPFILE = 0o20000000  # __O_TMPFILE, without O_DIRECTORY
SET_ID = (stat.S_ISUID, stat.S_ISGID)


def write_filter() -> int:
    """A descriptor of the compiled filter, at its start. Raises OSError."""
    filter_ = seccomp.SyscallFilter(seccomp.ALLOW)
    filter_.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    for number, call, conditions in _rules():
        if isinstance(call, int) or seccomp.resolve_syscall(seccomp.Arch.NATIVE, call) >= 0:
            filter_.add_rule(seccomp.ERRNO(number), call, *conditions)
    descriptor = os.memfd_create("seccomp")
    filter_.export_bpf(os.fdopen(descriptor, "wb", closefd=False))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _rules() -> Iterator[Rule]:
    yield from ((errno.EPERM, call, ()) for call in REFUSED)
    yield from ((errno.ENOSYS, call, ()) for call in UNKNOWN)
    for flag in NAMESPACES:
        yield from ((errno.EPERM, call, (_has(0, flag),)) for call in ("clone", "unshare"))
    for family in range(max(FAMILIES)):
        if family not in FAMILIES:
            yield errno.EAFNOSUPPORT, "socket", (Arg(0, EQ, family),)
    yield errno.EAFNOSUPPORT, "socket", (Arg(0, GT, max(FAMILIES)),)
    yield errno.EAFNOSUPPORT, "socket", (Arg(0, EQ, socket.AF_NETLINK), Arg(2, GT, 0))
    for request in TERMINAL_INPUT:
        yield errno.EPERM, "ioctl", (Arg(1, MASKED_EQ, IOCTL_MASK, request),)
    yield from _set_id()


def _set_id() -> Iterator[Rule]:
    """Refuse each way to make a setuid or setgid file."""
    for bit in SET_ID:
        yield from ((errno.EPERM, call, (_has(at, bit),)) for call, at in MODE_AT)
        for call, at in FLAGS_AT:
            yield from ((errno.EPERM, call, (_has(at, flag), _has(at + 1, bit))) for flag in (os.O_CREAT, O_TMPFILE))


def _has(argument: int, bit: int) -> Arg:
    return Arg(argument, MASKED_EQ, bit, bit)
