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
from shared.drivers.containers.launch import (
    NOT_LAUNCHED,
    LaunchError,
    exit_code,
    launch,
    list_isolation,
    list_limits,
)
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.state import ContainerRecord, Exit, Run, State
from shared.processes.files import rotate
from shared.processes.identity import ProcessIdentity, identify
from shared.processes.tree import (
    Processes,
    ProcessTree,
    children,
    descendants,
    proportional_bytes,
    resident_bytes,
    send_all,
)

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


def exceeded(spec: ContainerSpec, lived_s: float, used: int) -> str | None:
    """The limit that is exceeded; None where none is."""
    if spec.memory_bytes is not None and used > spec.memory_bytes:
        return "memory"
    if spec.time_limit_s is not None and lived_s > spec.time_limit_s:
        return "time"
    return None


def killed_for_memory() -> int:
    """How many processes the kernel has killed since its start because memory was short (oom_kill in proc_vmstat(5))."""
    with suppress(OSError):
        fields = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return next((int(count) for name, count in fields if name == "oom_kill"), 0)
    return 0


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
            first = launch(self._record, self._state.log)
        except LaunchError as error:
            self._record_end(Exit(exit_code=NOT_LAUNCHED, finished_at=time.time(), error=str(error)))
            return
        spec, leader = self._record.spec, _identity(first)
        self._run = Run(
            shim=self._run.shim,
            tree=ProcessTree(token=self._record.token, leader=leader),
            started_at=time.time(),
            isolation=list_isolation(spec),
            limits=list_limits(spec),
            init=next(iter(children(leader)), None) if spec.isolated else None,
        )
        self._record_run()
        killed_before = killed_for_memory()
        status, limit = self._watch(first)
        self._sweep()
        code = exit_code(spec, status)
        if code == -signal.SIGKILL and limit is None and killed_for_memory() > killed_before:
            limit = "memory"  # not its own: the machine had none left, and the kernel chose it
        self._record_end(Exit(exit_code=code, limit=limit, finished_at=time.time()))

    def _watch(self, first: int) -> tuple[int, str | None]:
        """Wait for the first process; return its wait status and the limit that was exceeded."""
        started = time.monotonic()
        limit: str | None = None
        while True:
            if time.monotonic() >= self._next_sample:
                used = self._memory(self._sample())
                with suppress(OSError):  # it is tried again at the next sample
                    rotate(self._state.log)
                limit = limit or exceeded(self._record.spec, time.monotonic() - started, used)
            if limit:
                self._kill()
            received = signal.sigtimedwait(AWAITED, POLL_S)
            if received and received.si_signo == signal.SIGTERM:
                self._terminate(first)
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

    def _memory(self, processes: Processes) -> int:
        """Memory in use. Exact only above the limit: to look at every page takes long."""
        scratch, limit = self._run.scratch_bytes(), self._record.spec.memory_bytes
        upper = resident_bytes(processes) + scratch
        return proportional_bytes(processes) + scratch if limit is not None and upper > limit else upper

    def _terminate(self, first: int) -> None:
        """Send SIGTERM to the payload's group: in a sandbox that of its init, which ignores it."""
        with suppress(ProcessLookupError):
            os.killpg(self._run.init.pid if self._run.init else first, signal.SIGTERM)

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
