"""Start the first process of a container from its record: fork, limits, sandbox, exec."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from pathlib import Path
from typing import NoReturn

from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.sandbox import READY, enter
from shared.drivers.containers.state import ContainerRecord
from shared.processes.files import read_tail
from shared.processes.tree import MARKER

OPEN_FILES = 4096
MOST_OPEN_FILES = 16384
LARGEST_FILE = 64 * 1024**3  # bytes
FAILURE_BYTES = 4096
FAILURE_LINES = 3
NOT_LAUNCHED = 127
SIGNALLED = 128  # a sandbox exits with 128 + the signal that ended its payload, as a shell does
ALWAYS = ("process-group", "environment")
SANDBOX = ("network", "filesystem", "ipc", "capabilities", "pid", "seccomp", "user")
SANDBOX_LIMITS = ("processes", "open-files", "file-size", "scratch")


class LaunchError(Exception):
    """The payload never ran; the message is the reason."""


def launch(record: ContainerRecord, log: Path) -> int:
    """Start the payload and return the pid of the first process once it is executed. Raises LaunchError.

    Blocks for milliseconds.
    """
    if record.spec.isolated and record.sandbox is None:
        raise LaunchError(f"container {record.spec.name}: its record names no sandbox")
    failure, failure_end = os.pipe()
    ready, ready_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(record, log, ready_end, failure_end)
    os.close(failure_end)
    os.close(ready_end)
    message = _read(failure)
    # The sandbox is up, and its command is about to run; else everything that could write here is gone.
    if not message and record.spec.isolated and not _read(ready, 1):
        message = read_tail(log, FAILURE_LINES).strip() or f"command {record.spec.command[0]}: not found in the sandbox"
    if message:
        os.waitpid(pid, 0)
        raise LaunchError(f"container {record.spec.name}: {message}")
    return pid


def exit_code(spec: ContainerSpec, status: int) -> int:
    """The payload's exit code, negative for a signal, from the wait status of the first process."""
    code = os.waitstatus_to_exitcode(status)
    return SIGNALLED - code if spec.isolated and code > SIGNALLED else code


def list_isolation(spec: ContainerSpec) -> tuple[str, ...]:
    """List the isolation in force."""
    return (*ALWAYS, *SANDBOX) if spec.isolated else ALWAYS


def list_limits(spec: ContainerSpec) -> tuple[str, ...]:
    """List the limits in force."""
    sampled = {"memory-sampled": spec.memory_bytes, "time": spec.time_limit_s}
    return (*(name for name, limit in sampled.items() if limit), "log", *(SANDBOX_LIMITS if spec.isolated else ()))


def _become(record: ContainerRecord, log: Path, ready: int, failure: int) -> NoReturn:
    spec, env = record.spec, {**record.spec.env, MARKER: record.token}
    doing = "process"
    try:
        os.setsid()
        _plain_signals()
        _limit(spec)
        _redirect(log)
        if record.sandbox:
            doing = "isolation"
            failure = fcntl.fcntl(failure, fcntl.F_DUPFD_CLOEXEC, READY + 1)  # READY may be its number
            enter(record.sandbox, spec, env, ready)
        doing = f"working directory {spec.cwd}"
        os.chdir(spec.cwd)
        doing = f"command {spec.command[0]}"
        os.execvpe(spec.command[0], spec.command, env)
    except (OSError, ValueError) as error:
        os.write(failure, f"{doing}: {error}".encode()[:FAILURE_BYTES])
    finally:
        os._exit(NOT_LAUNCHED)


def _plain_signals() -> None:
    # Python ignores SIGPIPE and the shim blocks the signals it waits for; the payload would inherit both.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _limit(spec: ContainerSpec) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES, MOST_OPEN_FILES if spec.isolated else None)
    if spec.isolated:
        _lower(resource.RLIMIT_FSIZE, LARGEST_FILE, LARGEST_FILE)


def _lower(limit: int, soft: int, hard: int | None) -> None:
    """Set a limit, as far as it is below the one in force."""
    granted = resource.getrlimit(limit)[1]
    bounds = (soft, granted if hard is None else hard)
    resource.setrlimit(
        limit, bounds if granted == resource.RLIM_INFINITY else (min(soft, granted), min(bounds[1], granted))
    )


def _redirect(log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _read(descriptor: int, most: int = -1) -> str:
    """Read `most` bytes, or until the last writer has closed the pipe."""
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read(most).decode(errors="replace")
