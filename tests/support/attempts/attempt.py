"""What attempts are made of. Only the standard library: they run in a sandbox, without site-packages."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "ptrace": 101, "syslog": 103, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166, "swapon": 167,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "init_module": 175, "shmget": 29, "clone": 56, "msgget": 68,
    "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
    "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
    "finit_module": 313, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "clone3": 435, "openat2": 437, "mount_setattr": 442,
    "memfd_secret": 447, "fchmodat2": 452, "capset": 126, "process_vm_readv": 310, "mknodat": 259, "creat": 85,
    "semget": 64, "mq_open": 240, "vmsplice": 278,
}  # fmt: skip
REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EAFNOSUPPORT, errno.ESRCH)
MIB = 1 << 20


class Refused(Exception):
    """The attempt found nothing, or was without effect."""


class Plan(NamedTuple):
    """What there is outside, to be reached for, and the two folders that the sandbox was given."""

    inputs: str
    output: str
    home: str
    secrets: tuple[str, ...]
    shared_memory: str
    socket: str
    abstract: str
    port: int
    pid: int
    marker: str
    pids: int
    shm_bytes: int


class Attempt(NamedTuple):
    """Something a job must not do. A `harmless` one can be tried without a sandbox: there it must succeed."""

    name: str
    run: Callable[[Plan], object]
    harmless: bool = False


def call(name: str, *arguments: int | bytes | None) -> int:
    """Make a system call. One that fails for any other reason than being refused has reached the kernel's code."""
    result: int = LIBC.syscall(
        NUMBERS[name], *(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    )
    if result == -1 and (number := ctypes.get_errno()) in REFUSALS:
        raise OSError(number, os.strerror(number))
    return result


def check(found: object) -> None:
    if not found:
        raise Refused("nothing there")


def read(path: str | Path) -> None:
    with Path(path).open("rb") as file:
        check(file.read(1))


def write(path: str, mode: str = "a") -> None:
    with Path(path).open(mode) as file:
        file.write("0")


def reads(path: str) -> Attempt:
    return Attempt(f"read {path}", lambda plan: read(path))


def own_file(plan: Plan, name: str) -> str:
    path = Path(plan.output, name)
    path.write_bytes(b"#!/bin/sh\nid\n")
    return str(path)
