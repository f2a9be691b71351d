"""The kernel: mounts, namespaces, and calls that a job never needs."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import pty
import signal
import struct
import tempfile
from collections.abc import Callable

from .attempt import LIBC, Attempt, Plan, Refused, call

CLONE = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "network": 0x40000000, "uts": 0x4000000}
PATH = os.fsencode(tempfile.gettempdir())


def chrooted(plan: Plan) -> None:
    os.mkdir(f"{plan.output}/root")  # noqa: PTH102
    os.chroot(f"{plan.output}/root")


def cloned(flag: str) -> Callable[[Plan], None]:
    def clone(plan: Plan) -> None:
        if call("clone", CLONE[flag] | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            os._exit(0)
        os.wait()

    return clone


def clone3_user(plan: Plan) -> None:
    arguments = struct.pack("<8Q", CLONE["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    if call("clone3", arguments, len(arguments)) == 0:
        os._exit(0)
    os.wait()


def calls(name: str, *arguments: int | bytes | None) -> Attempt:
    return Attempt(f"call {name}", lambda plan: call(name, *arguments))


def unshares(name: str) -> Attempt:
    return Attempt(f"unshare {name}", lambda plan: call("unshare", CLONE[name]))


def machine_code(code: bytes) -> int:
    area = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))())


def call_of_i386(plan: Plan) -> None:
    machine_code(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret


def call_of_x32(plan: Plan) -> None:
    if LIBC.syscall(ctypes.c_long(39 | 0x40000000)) == -1:  # getpid
        raise Refused("no x32")


def typed(request: int) -> None:
    """Put a character into the input of a terminal."""
    leader, _ = pty.openpty()
    fcntl.ioctl(leader, request, b"x")


def held_in_a_pipe(plan: Plan) -> None:
    """Let a pipe hold pages that no process has mapped."""
    page = ctypes.create_string_buffer(mmap.PAGESIZE)
    call("vmsplice", os.pipe()[1], struct.pack("PN", ctypes.addressof(page), len(page)), 1, 0)


def types(name: str, request: int) -> Attempt:
    return Attempt(f"type into a terminal with {name}", lambda plan: typed(request))


ATTEMPTS: tuple[Attempt, ...] = (
    # Mounts and namespaces.
    calls("mount", b"none", PATH, b"tmpfs", 0, None),
    Attempt("bind an input read-write", lambda plan: call("mount", plan.inputs.encode(), PATH, None, 0x1000, None)),
    Attempt("remount an input", lambda plan: call("mount", None, plan.inputs.encode(), None, 0x1020, None)),
    calls("umount2", b"/proc", 2),
    calls("pivot_root", PATH, PATH),
    Attempt("chroot", chrooted),
    calls("fsopen", b"tmpfs", 0),
    calls("open_tree", -100, b"/", 1),
    calls("move_mount", -100, b"/", -100, PATH, 0),
    calls("mount_setattr", -100, b"/", 0, bytes(32), 32),
    Attempt("enter namespaces of init", lambda plan: call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)),
    *(unshares(name) for name in CLONE),
    *(Attempt(f"clone {name}", cloned(name)) for name in ("user", "mount", "network")),
    Attempt("clone3 user", clone3_user),
    calls("sethostname", b"owned", 5),
    calls("setdomainname", b"owned", 5),
    # The kernel's doors.
    calls("keyctl", 0, -3, 1),
    calls("add_key", b"user", b"name", b"value", 5, -3),
    calls("request_key", b"user", b"name", None, -3),
    calls("io_uring_setup", 1, bytes(120)),
    calls("bpf", 0, bytes(120), 120),
    calls("perf_event_open", bytes(112), 0, -1, -1, 0),
    calls("userfaultfd", 1),
    calls("ptrace", 0, 0, 0, 0),
    calls("kexec_load", 0, 0, None, 0),
    calls("kexec_file_load", -1, -1, 0, None, 0),
    calls("init_module", None, 0, b""),
    calls("finit_module", -1, b"", 0),
    calls("fanotify_init", 0, 0),
    calls("name_to_handle_at", -100, b"/", bytes(8), bytes(8), 0),
    calls("open_by_handle_at", -100, bytes(16), 0),
    calls("swapon", b"/nowhere", 0),
    calls("reboot", 0, 0, 0, None),
    calls("syslog", 3, None, 0),
    calls("clock_settime", 0, None),
    calls("memfd_create", b"hidden memory", 0),
    calls("memfd_secret", 0),
    calls("shmget", 0x5F0F, 4096, 0o1666),
    calls("msgget", 0x5F0F, 0o1666),
    calls("semget", 0x5F0F, 1, 0o1666),
    calls("mq_open", b"hidden", os.O_CREAT | os.O_RDWR, 0o600, None),
    Attempt("keep memory in a pipe", held_in_a_pipe),
    Attempt("make a call of i386", call_of_i386),
    Attempt("make a call of x32", call_of_x32),
    types("TIOCSTI", 0x5412),
    types("TIOCLINUX", 0x541C),
)
