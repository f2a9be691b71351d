"""Privileges: setuid files that stay in the Lab, and more rights than the job's."""

from __future__ import annotations

import os
import stat
import struct

from .attempt import Attempt, Plan, call, check, own_file


def made_with(path: str, flags: int, mode: int) -> None:
    """Make a file with a mode, and check that it has it."""
    descriptor = os.open(path, flags, mode)
    check(os.fstat(descriptor).st_mode & (stat.S_ISUID | stat.S_ISGID))


def with_capability(plan: Plan) -> None:
    # VFS_CAP_REVISION_2 with CAP_SYS_ADMIN, see capabilities(7).
    os.setxattr(own_file(plan, "capable"), "security.capability", struct.pack("<5I", 0x02000001, 1 << 21, 0, 0, 0))


def tmpfile_with(plan: Plan, bit: int) -> None:
    made_with(plan.output, os.O_TMPFILE | os.O_RDWR, 0o755 | bit)


def nosuid_missing(path: str) -> None:
    check(not os.statvfs(path).f_flag & os.ST_NOSUID)


def capable(plan: Plan) -> None:
    header, sets = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", *[0xFFFFFFFF, 0xFFFFFFFF, 0] * 2)
    call("capset", header, sets)


def keeps_setuid(path: str) -> Attempt:
    return Attempt(f"run setuid programs of {path}", lambda plan: nosuid_missing(path))


ATTEMPTS: tuple[Attempt, ...] = (
    # Files with privileges, in the Lab.
    Attempt("chmod u+s", lambda plan: os.chmod(own_file(plan, "a"), 0o4755), harmless=True),  # noqa: PTH101
    Attempt("chmod g+s", lambda plan: os.chmod(own_file(plan, "b"), 0o2755), harmless=True),  # noqa: PTH101
    Attempt("fchmod u+s", lambda plan: os.fchmod(os.open(own_file(plan, "c"), os.O_RDONLY), 0o4755), harmless=True),
    Attempt("fchmodat2 u+s", lambda plan: call("fchmodat2", -100, own_file(plan, "d").encode(), 0o4755, 0)),
    Attempt("open with u+s", lambda plan: made_with(f"{plan.output}/e", os.O_CREAT | os.O_RDWR, 0o4755), harmless=True),
    Attempt("open with g+s", lambda plan: made_with(f"{plan.output}/f", os.O_CREAT | os.O_RDWR, 0o2755), harmless=True),
    Attempt("O_TMPFILE with u+s", lambda plan: tmpfile_with(plan, stat.S_ISUID), harmless=True),
    Attempt("creat with u+s", lambda plan: call("creat", f"{plan.output}/g".encode(), 0o4755)),
    Attempt(
        "openat2 with u+s", lambda plan: call("openat2", -100, b"/tmp/h", struct.pack("<3Q", 0o102, 0o4755, 0), 24)
    ),
    Attempt("mknod with u+s", lambda plan: os.mknod(f"{plan.output}/i", stat.S_IFREG | 0o4755), harmless=True),
    Attempt("give a file a capability", with_capability),
    *(keeps_setuid(path) for path in ("/usr", "/tmp", "/")),
    Attempt("setuid programs of the output", lambda plan: nosuid_missing(plan.output)),
    # Privileges.
    Attempt("become root", lambda plan: os.setresuid(0, 0, 0)),
    Attempt("take the group of root", lambda plan: os.setresgid(0, 0, 0)),
    Attempt("take groups", lambda plan: os.setgroups([0])),
    Attempt("take capabilities", capable),
    Attempt("raise its priority", lambda plan: os.nice(-5)),
    Attempt("take a real-time priority", lambda plan: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
)
