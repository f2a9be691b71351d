"""Files: of others, of the system, inputs, devices."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from .attempt import Attempt, Plan, Refused, check, read, reads, write


def listing(path: str, plan: Plan) -> None:
    """List a folder; the way to what the sandbox was given, as a project below /home, is no finding."""
    given = (__file__, sys.executable, sys.prefix, sys.base_prefix, plan.inputs, plan.output, plan.home)
    ways = {way.removeprefix(f"{path}/").split("/")[0] for way in given if way.startswith(f"{path}/")}
    check(set(os.listdir(path)) - ways)  # noqa: PTH208 # the attempts are plain calls


def stray_descriptor(plan: Plan) -> None:
    """Find a descriptor that was inherited and leads to a folder."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            check(int(name) > 2 and stat.S_ISDIR(os.fstat(int(name)).st_mode))
        except (OSError, Refused):
            continue
        return
    raise Refused("no descriptor of a folder")


def climbed(plan: Plan) -> None:
    os.chdir("/")
    os.chdir("../../../../..")
    read(plan.secrets[0].lstrip("/"))


def reopened(plan: Plan) -> None:
    descriptor = os.open(f"{plan.inputs}/data", os.O_RDONLY)
    os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))


def linked_in(plan: Plan) -> None:
    os.link(f"{plan.inputs}/data", f"{plan.output}/linked")


def lists(path: str) -> Attempt:
    return Attempt(f"list {path}", lambda plan: listing(path, plan))


def reads_secret(what: str, place: int) -> Attempt:
    return Attempt(f"read {what}", lambda plan: read(plan.secrets[place]), harmless=True)


def writes(path: str) -> Attempt:
    return Attempt(f"write to {path}", lambda plan: write(path))


ATTEMPTS: tuple[Attempt, ...] = (
    # Files of others.
    *(reads(path) for path in ("/etc/shadow", "/etc/gshadow", "/etc/ssh/sshd_config", "/proc/kcore", "/proc/kmsg")),
    *(lists(path) for path in ("/home", "/var", "/opt", "/boot", "/mnt", "/srv", "/sys/class/net", "/sys/fs")),
    reads_secret("the database's password", 0),
    reads_secret("the holdout", 1),
    reads_secret("another run", 2),
    reads_secret("a file of the owner", 3),
    reads_secret("a secret below an input", 4),
    Attempt("list the home", lambda plan: check(set(os.listdir(plan.home)) - {"lab"}), harmless=True),  # noqa: PTH208
    Attempt("read through /proc/1/root", lambda plan: read(f"/proc/1/root{plan.secrets[0]}")),
    Attempt("read through /proc/self/root", lambda plan: read(f"/proc/self/root/..{plan.secrets[0]}"), harmless=True),
    Attempt("read through /proc/1/cwd", lambda plan: read(f"/proc/1/cwd/../../../../../..{plan.secrets[0]}")),
    Attempt("climb out of the root", climbed, harmless=True),
    Attempt("use an inherited descriptor", stray_descriptor),
    Attempt("read shared memory of others", lambda plan: read(plan.shared_memory), harmless=True),
    # Inputs, the system, devices.
    Attempt("change an input", lambda plan: write(f"{plan.inputs}/data"), harmless=True),
    Attempt("truncate an input", lambda plan: os.truncate(f"{plan.inputs}/data", 1), harmless=True),
    Attempt("make a file among the inputs", lambda plan: write(f"{plan.inputs}/new"), harmless=True),
    Attempt("rename an input", lambda plan: os.rename(f"{plan.inputs}/more", f"{plan.inputs}/less"), harmless=True),  # noqa: PTH104
    Attempt("change the mode of an input", lambda plan: os.chmod(f"{plan.inputs}/data", 0o666), harmless=True),  # noqa: PTH101
    Attempt("change the times of an input", lambda plan: os.utime(f"{plan.inputs}/data"), harmless=True),
    Attempt("label an input", lambda plan: os.setxattr(f"{plan.inputs}/data", "user.a", b"a")),
    Attempt("reopen an input for writing", reopened, harmless=True),
    Attempt("link an input into the output", linked_in, harmless=True),
    *(
        writes(path)
        for path in (
            *("/usr/bin/true", "/usr/new", "/etc/passwd", "/etc/ld.so.preload", "/new", "/dev/new", "/bin/new"),
            *("/proc/sys/vm/swappiness", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"),
            *("/sys/devices/system/cpu/cpu0/online", "/proc/1/mem"),
        )
    ),
    Attempt("write to the interpreter", lambda plan: write(str(Path(sys.executable).parents[1] / "pyvenv.cfg"))),
    Attempt("write into the hidden home", lambda plan: write(f"{plan.home}/new"), harmless=True),
    *(reads(node) for node in ("/dev/mem", "/dev/vda", "/dev/sda", "/dev/kmsg")),
    Attempt("make a device", lambda plan: os.mknod(f"{plan.output}/disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))),
)
