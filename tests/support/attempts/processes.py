"""Processes outside, and more of everything than a job may use."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

from .attempt import MIB, Attempt, Plan, Refused, call, check, own_file, read


def foreign_process(plan: Plan) -> None:
    """Find a process that has the outside's marker in its command line or environment."""
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                check(plan.marker.encode() in (process / name).read_bytes())
            except (OSError, Refused):
                continue
            return
    raise Refused("no foreign process")


def killed_init(plan: Plan) -> None:
    os.kill(1, signal.SIGKILL)
    time.sleep(0.2)
    raise Refused("init lives")


def read_memory(plan: Plan) -> None:
    call("process_vm_readv", plan.pid, 0, 0, 0, 0, 0)
    check(Path(f"/proc/{plan.pid}").exists())


def raised(limit: int) -> None:
    hard = resource.getrlimit(limit)[1]
    try:
        resource.setrlimit(limit, (hard + 1, hard + 1))
    except ValueError as error:  # what Python makes of EPERM
        raise Refused(str(error)) from error


def fork_bomb(plan: Plan) -> None:
    """Start one process more than it may have at once."""
    children: list[int] = []
    try:
        for _ in range(plan.pids + 1):
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def thread_bomb(plan: Plan) -> None:
    import threading

    enough = threading.Event()
    try:
        for _ in range(plan.pids + 1):
            threading.Thread(target=enough.wait, daemon=True).start()
    except RuntimeError as error:
        raise Refused(str(error)) from error
    finally:
        enough.set()


def huge_file(plan: Plan) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.truncate(own_file(plan, "huge"), 1 << 40)


def many_files(plan: Plan) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(17000):
        os.dup(0)


def full_shared_memory(plan: Plan) -> None:
    try:
        with Path("/dev/shm/full").open("wb") as file:
            for _ in range(plan.shm_bytes // MIB + 1):
                file.write(bytes(MIB))
    finally:
        Path("/dev/shm/full").unlink(missing_ok=True)


def filled(folder: str) -> Callable[[Plan], None]:
    """Write into a folder that is in memory but of no use to a job."""

    def write_there(plan: Plan) -> None:
        Path(folder, "filler").write_bytes(bytes(MIB))

    return write_there


ATTEMPTS: tuple[Attempt, ...] = (
    # Processes.
    Attempt("signal a process outside", lambda plan: os.kill(plan.pid, 0), harmless=True),
    Attempt("signal a process group outside", lambda plan: os.killpg(plan.pid, 0), harmless=True),
    Attempt("open a process outside", lambda plan: os.pidfd_open(plan.pid), harmless=True),
    Attempt("read the environment of a process outside", lambda plan: read(f"/proc/{plan.pid}/environ"), harmless=True),
    Attempt("find a process outside", foreign_process, harmless=True),
    Attempt("read the memory of a process outside", read_memory, harmless=True),
    Attempt("trace a process outside", lambda plan: call("ptrace", 0x4206, plan.pid, 0, 0)),
    Attempt("kill the init of the sandbox", killed_init),
    Attempt("limit a process outside", lambda plan: resource.prlimit(plan.pid, resource.RLIMIT_CORE), harmless=True),
    # More than it may use.
    Attempt("fork without end", fork_bomb, harmless=True),
    Attempt("start threads without end", thread_bomb, harmless=True),
    Attempt("raise its limit of processes", lambda plan: raised(resource.RLIMIT_NPROC)),
    Attempt("write a huge file", huge_file, harmless=True),
    Attempt("open files without end", many_files),
    Attempt("fill /dev/shm", full_shared_memory, harmless=True),
    *(Attempt(f"fill {folder}", filled(folder)) for folder in ("/", "/dev", "/etc", "/proc")),
    Attempt("write core dumps", lambda plan: raised(resource.RLIMIT_CORE)),
    Attempt("raise the size of its files", lambda plan: raised(resource.RLIMIT_FSIZE)),
)
