"""The shim of one container: `python -m shared.drivers.containers.shim STATE_DIR`.

It detaches itself, so that it outlives its starter, launches the payload, reaps its whole tree, enforces the limits,
forwards SIGTERM to the payload's group, and records the end when nothing of the tree is left.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.drivers.containers.kernel import become_subreaper
from shared.drivers.containers.launch import NOT_LAUNCHED, LaunchError, exit_code, launch
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.state import ContainerRecord, Exit, Run, State
from shared.processes.files import rotate
from shared.processes.identity import ProcessIdentity, identify
from shared.processes.tree import Processes, ProcessTree, descendants, resident_bytes, send_all

POLL_S = 0.5
SWEEP_S = 0.05
AWAITED = (signal.SIGCHLD, signal.SIGTERM)


def main(state: State) -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    with state.lock() as alone:
        record = state.record()
        # Another shim has run it or runs it: a name runs once.
        if alone and record and not state.run() and not state.exit():
            Shim(state, record).run()


def exceeded(spec: ContainerSpec, lived_s: float, resident: int) -> str | None:
    """The limit that is exceeded; None where none is."""
    if spec.memory_bytes is not None and resident > spec.memory_bytes:
        return "memory"
    if spec.time_limit_s is not None and lived_s > spec.time_limit_s:
        return "time"
    return None


class Shim:
    """One run of one container, from launch to the last reaped process."""

    def __init__(self, state: State, record: ContainerRecord) -> None:
        self._state = state
        self._record = record
        self._run = Run(shim=_identity(os.getpid()), tree=ProcessTree(token=record.token))
        self._recorded = self._run
        self._next_sample = 0.0

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        become_subreaper()
        self._state.write_run(self._run)
        try:
            launched = launch(self._record, self._state.log)
        except LaunchError as error:
            self._record_end(Exit(exit_code=NOT_LAUNCHED, finished_at=time.time(), error=str(error)))
            return
        tree = ProcessTree(token=self._record.token, leader=_identity(launched.pid))
        self._run = Run(shim=self._run.shim, tree=tree, started_at=time.time(), isolation=launched.isolation)
        self._record_run()
        status, limit = self._watch(launched.pid)
        self._sweep()
        self._record_end(Exit(exit_code=exit_code(launched, status), limit=limit, finished_at=time.time()))

    def _watch(self, first: int) -> tuple[int, str | None]:
        """Wait for the first process; return its wait status and the limit that was exceeded."""
        started = time.monotonic()
        limit: str | None = None
        while True:
            if time.monotonic() >= self._next_sample:
                resident = resident_bytes(self._sample())
                with suppress(OSError):  # it is tried again at the next sample
                    rotate(self._state.log)
                limit = limit or exceeded(self._record.spec, time.monotonic() - started, resident)
            if limit:
                self._kill()
            received = signal.sigtimedwait(AWAITED, POLL_S)
            if received and received.si_signo == signal.SIGTERM:
                os.killpg(first, signal.SIGTERM)
            status = _reap(first)
            if status is not None:
                return status, limit

    def _sample(self) -> Processes:
        """List the payload's processes now; record the whole tree where it has changed."""
        self._next_sample = time.monotonic() + POLL_S
        found = descendants(self._run.shim)
        if found != set(self._run.tree.members):
            tree = self._run.tree.model_copy(update={"members": tuple(found)})
            self._run = self._run.model_copy(update={"tree": tree})
        if self._run != self._recorded:
            self._record_run()
        return self._run.payload(found)

    def _record_run(self) -> None:
        """Record the run; where that fails, the payload is supervised all the same, and the next sample repeats it."""
        if _written(lambda: self._state.write_run(self._run)):
            self._recorded = self._run

    def _record_end(self, end: Exit) -> None:
        """Record the end, as soon as that is possible: without it the container would count as lost."""
        while not _written(lambda: self._state.write_exit(end)) and self._state.directory.is_dir():
            signal.sigtimedwait(AWAITED, POLL_S)

    def _kill(self) -> None:
        send_all(descendants(self._run.shim), signal.SIGKILL)

    def _sweep(self) -> None:
        """Kill what outlived the first process. As its reaper the shim is done only when it has no child left."""
        while _has_children():
            self._kill()
            signal.sigtimedwait(AWAITED, SWEEP_S)


def _written(write: Callable[[], None]) -> bool:
    """Call `write`; False where it fails, as on a full disk."""
    try:
        write()
    except OSError as error:
        with suppress(OSError):  # the log is on the same disk
            print(f"cannot be recorded: {error}; it is tried again", file=sys.stderr, flush=True)
        return False
    return True


def _identity(pid: int) -> ProcessIdentity:
    found = identify(pid)
    if found is None:
        raise ProcessLookupError(f"process {pid} is gone")
    return found


def _reap(first: int) -> int | None:
    """Reap every process that ended; return the wait status of `first` if it was among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return None
        if pid == first:
            # `_sweep` deals with the rest.
            return status


def _has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


if __name__ == "__main__":
    main(State(Path(sys.argv[1])))
