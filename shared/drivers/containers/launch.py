"""Start the first process of a container from its record: fork, isolation, limits, exec."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple, NoReturn

from shared.drivers.containers.sandbox import Isolation, enter, list_isolation, permitted
from shared.drivers.containers.state import ContainerRecord
from shared.processes.tree import MARKER

OPEN_FILES = 4096
FAILURE_BYTES = 4096
NOT_LAUNCHED = 127


class LaunchError(Exception):
    """The payload never ran; the message is the reason."""


class Launched(NamedTuple):
    """The first process, its isolation, and the descriptor to which the init of its PID namespace writes the exit code."""

    pid: int
    isolation: tuple[str, ...]
    verdict: int


def launch(record: ContainerRecord, log: Path) -> Launched:
    """Start the payload and return once it is executed. Raises LaunchError. Blocks for milliseconds."""
    spec = record.spec
    granted = permitted() if spec.isolated else None
    failure, failure_end = os.pipe()
    verdict, verdict_end = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(record, granted, shim, log, verdict_end, failure_end)
    os.close(failure_end)
    os.close(verdict_end)
    message = _read(failure)
    if message:
        os.waitpid(pid, 0)
        raise LaunchError(f"container {spec.name}: {message}")
    return Launched(pid=pid, isolation=list_isolation(spec.isolated, granted), verdict=verdict)


def exit_code(launched: Launched, status: int) -> int:
    """The payload's exit code; in a PID namespace it is read from the init, `status` is only that of the first process."""
    code = _read(launched.verdict)
    return int(code) if code else os.waitstatus_to_exitcode(status)


def _become(
    record: ContainerRecord, granted: Isolation | None, shim: int, log: Path, verdict: int, failure: int
) -> NoReturn:
    spec = record.spec
    doing = "process"
    try:
        os.setsid()
        _plain_signals()
        _limit()
        _redirect(log)
        if spec.isolated:
            doing = "isolation"
            enter(spec, granted, shim, verdict)
        doing = f"working directory {spec.cwd}"
        os.chdir(spec.cwd)
        doing = f"command {spec.command[0]}"
        os.execvpe(spec.command[0], spec.command, {**spec.env, MARKER: record.token})
    except (OSError, ValueError) as error:
        os.write(failure, f"{doing}: {error}".encode()[:FAILURE_BYTES])
    finally:
        os._exit(NOT_LAUNCHED)


def _plain_signals() -> None:
    # Python ignores SIGPIPE and the shim blocks the signals it waits for; the payload would inherit both.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _redirect(log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _read(descriptor: int) -> str:
    """Read until the last writer has closed the pipe."""
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read().decode(errors="replace")
