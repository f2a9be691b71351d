"""The guardian of one container: `python -m shared.drivers.containers.shim STATE_DIR`.

It detaches itself, so that it outlives whoever started it, launches the payload, reaps its whole tree, enforces the
limits, forwards SIGTERM to the payload's group, and writes down the end when nothing of the tree is left.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from shared.drivers.containers.kernel import become_subreaper
from shared.drivers.containers.launch import NOT_LAUNCHED, LaunchError, exit_code, launch
from shared.drivers.containers.port import ContainerSpec
from shared.drivers.containers.state import Child, Exit, Placed, State, Tree
from shared.drivers.containers.survey import payload
from shared.processes.identity import ProcessIdentity, identify, send
from shared.processes.tree import Processes, descendants, resident_bytes

POLL_S = 0.5
SWEEP_S = 0.05
AWAITED = (signal.SIGCHLD, signal.SIGTERM)


def main(state: State) -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    with state.lock() as alone:
        placed = state.placed()
        # Another shim is at it, or was: a name runs once.
        if alone and placed and not state.shim() and not state.exit():
            Guardian(state, placed).guard()


def exceeded(spec: ContainerSpec, lived_s: float, resident: int) -> str | None:
    """The limit that is broken, if any."""
    if spec.memory_bytes is not None and resident > spec.memory_bytes:
        return "memory"
    if spec.time_limit_s is not None and lived_s > spec.time_limit_s:
        return "time"
    return None


class Guardian:
    """One run of one container, from launch to the last reaped process."""

    def __init__(self, state: State, placed: Placed) -> None:
        self._state = state
        self._placed = placed
        self._spec = placed.spec
        self._self = _identity(os.getpid())
        self._tree: Processes = set()
        self._look_at = 0.0

    def guard(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        become_subreaper()
        self._state.guard(self._self)
        try:
            launched = launch(self._placed, self._state.log)
        except LaunchError as error:
            self._state.finish(Exit(exit_code=NOT_LAUNCHED, finished_at=time.time(), error=str(error)))
            return
        child = Child(identity=_identity(launched.pid), started_at=time.time(), isolation=launched.isolation)
        self._state.launched(child)
        status, limit = self._watch(child)
        self._sweep()
        self._state.finish(Exit(exit_code=exit_code(launched, status), limit=limit, finished_at=time.time()))

    def _watch(self, child: Child) -> tuple[int, str | None]:
        """The wait status of the first process, and the limit that was broken."""
        started = time.monotonic()
        limit: str | None = None
        while True:
            if time.monotonic() >= self._look_at:
                self._look()
                limit = limit or exceeded(
                    self._spec, time.monotonic() - started, resident_bytes(payload(self._tree, child))
                )
            if limit:
                self._kill()
            received = signal.sigtimedwait(AWAITED, POLL_S)
            if received and received.si_signo == signal.SIGTERM:
                os.killpg(child.identity.pid, signal.SIGTERM)
            status = _reap(child.identity.pid)
            if status is not None:
                return status, limit

    def _look(self) -> None:
        self._look_at = time.monotonic() + POLL_S
        found = descendants(self._self)
        if found != self._tree:
            self._tree = found
            self._state.seen(Tree(members=tuple(found)))

    def _kill(self) -> None:
        for member in descendants(self._self):
            send(member, signal.SIGKILL)

    def _sweep(self) -> None:
        """End what outlived the first process. As its reaper the shim is done only when it has no child left."""
        while _has_children():
            self._kill()
            signal.sigtimedwait(AWAITED, SWEEP_S)


def _identity(pid: int) -> ProcessIdentity:
    found = identify(pid)
    if found is None:
        raise ProcessLookupError(f"process {pid} is gone")
    return found


def _reap(first: int) -> int | None:
    """Reap all that ended; the wait status of `first` if it was among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return None
        if pid == first:
            # Whoever is left is the sweep's.
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
