"""State of one container of processes, from its files and the kernel: nothing is kept in memory.

container.json: the request · run.json: the shim and the processes below it · exit.json: the end.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.drivers.containers.port import ContainerInfo, ContainerSpec, ContainerState
from shared.drivers.containers.sandbox import SCRATCH
from shared.processes.files import read_record, try_lock, write_record
from shared.processes.identity import ProcessIdentity, alive, boot_id
from shared.processes.tree import Processes, ProcessTree, descendants, proportional_bytes

# Longer than any shim takes from its start to its lock.
SHIM_START_S = 30.0
LOST = "lost"


class ContainerRecord(Frozen):
    """The request. `token` is unique to this run: see ProcessTree. `sandbox` is the bubblewrap of an isolated one."""

    token: str
    requested_at: float
    spec: ContainerSpec
    sandbox: str | None = None


class Run(Frozen):
    """A run as its shim last observed it, kept in case the shim is killed.

    `started_at` is None until the payload is executed; the leader of `tree` is the first process below the shim, its
    child `init` the first in the sandbox.
    """

    shim: ProcessIdentity
    tree: ProcessTree
    started_at: float | None = None
    isolation: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    init: ProcessIdentity | None = None

    def payload(self, processes: Processes) -> Processes:
        """`processes` without the two of the sandbox: the first one and its init."""
        return processes - {self.tree.leader, self.init} if self.init else processes

    def scratch_bytes(self) -> int:
        """Memory of the files in the sandbox's /tmp, /run and /dev/shm; 0 where they cannot be reached."""
        pid = self.init and self.init.pid
        return sum(_used(Path(f"/proc/{pid}/root{folder}")) for folder in SCRATCH) if pid else 0


class Exit(Frozen):
    """The end of a run. `error` is the reason why the payload could not be executed."""

    exit_code: int | None
    limit: str | None = None
    finished_at: float
    error: str | None = None


class State:
    """The directory of one container."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "stdout.log"
        self.shim_log = directory / "shim.log"

    def record(self) -> ContainerRecord | None:
        return read_record(self.directory / "container.json", ContainerRecord)

    def run(self) -> Run | None:
        return read_record(self.directory / "run.json", Run)

    def exit(self) -> Exit | None:
        return read_record(self.directory / "exit.json", Exit)

    def write_record(self, record: ContainerRecord) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        write_record(self.directory / "container.json", record)

    def write_run(self, run: Run) -> None:
        write_record(self.directory / "run.json", run)

    def write_exit(self, end: Exit) -> None:
        write_record(self.directory / "exit.json", end)

    def renew(self, record: ContainerRecord) -> None:
        """Forget the last run and request a new one. Interrupted, it leaves a start that is settled as lost."""
        self.write_record(record)
        # The end is removed last: until then the finished run is the known state.
        for name in ("run.json", "exit.json"):
            (self.directory / name).unlink(missing_ok=True)

    def lock(self) -> AbstractContextManager[bool]:
        """Try to become the only process that may launch or settle the container; False where another holds the lock."""
        return try_lock(self.directory / "lock")

    def processes(self) -> Processes:
        """Find every living process of the container but its shim. Blocks for milliseconds."""
        run, record = self.run(), self.record()
        if run and alive(run.shim):
            # All of it: the shim is the reaper of every orphan below it.
            return descendants(run.shim)
        if run:
            return run.tree.processes()
        return ProcessTree(token=record.token).processes() if record else set()

    def payload(self) -> Processes:
        """Find the living processes of the payload."""
        run = self.run()
        return run.payload(self.processes()) if run else self.processes()

    def memory_bytes(self) -> int:
        """Memory of the payload now, with its files in /tmp, /run and /dev/shm."""
        run = self.run()
        return proportional_bytes(self.payload()) + (run.scratch_bytes() if run else 0)

    def settled(self) -> Exit | None:
        """The container's end; None while it runs or may yet start. Settles one whose shim is gone."""
        if found := self.exit():
            return found
        run, record = self.run(), self.record()
        if run is None:
            late = record is not None and time.time() - record.requested_at > SHIM_START_S
            return self.settle() if late else None
        if alive(run.shim) or (run.shim.boot_id == boot_id() and self.processes()):
            return None
        return self.settle()

    def settle(self) -> Exit | None:
        """Record the container as lost, since no shim will record its end; None while a shim holds it."""
        with self.lock() as alone:
            if not alone:
                return None
            # The shim may have written its own between the check and the lock.
            found = self.exit()
            if found is None:
                found = Exit(exit_code=None, limit=LOST, finished_at=time.time())
                try:
                    self.write_exit(found)
                except OSError:
                    # On a full disk it is settled again at each look, and must not seem to have just ended at each.
                    return found.model_copy(update={"finished_at": self._recorded_at()})
            return found

    def _recorded_at(self) -> float:
        """When its run was last recorded, or else requested."""
        with suppress(FileNotFoundError):
            return (self.directory / "run.json").stat().st_mtime
        record = self.record()
        return record.requested_at if record else 0.0

    def inspect(self) -> ContainerInfo | None:
        """Describe the container as it is now; None where there is none. Blocks for milliseconds."""
        if (record := self.record()) is None:
            return None
        end, run = self.settled(), self.run()
        return ContainerInfo(
            name=record.spec.name,
            state=ContainerState.EXITED if end else ContainerState.RUNNING,
            labels=record.spec.labels,
            started_at=(run and run.started_at) or record.requested_at,
            finished_at=end.finished_at if end else None,
            exit_code=end.exit_code if end else None,
            limit=end.limit if end else None,
            isolation=run.isolation if run else (),
            limits=run.limits if run else (),
        )


def _used(mount: Path) -> int:
    try:
        found = os.statvfs(mount)
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize
