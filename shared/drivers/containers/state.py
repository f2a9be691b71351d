"""The files of one container, from which driver and shim know everything: nothing is kept in memory.

spec.json what was asked · identity.json the shim · child.json the payload · tree.json its members · exit.json the end.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.drivers.containers.port import ContainerSpec
from shared.processes.files import Record, read_record, try_lock, write_record
from shared.processes.identity import ProcessIdentity


class Placed(Frozen):
    """What was asked. `token` is unique to this run: see ProcessTree."""

    token: str
    placed_at: float
    spec: ContainerSpec


class Child(Frozen):
    """The first process below the shim, the leader of its session, and what separates it from the rest."""

    identity: ProcessIdentity
    started_at: float
    isolation: tuple[str, ...]


class Tree(Frozen):
    """The members the shim saw last, kept for the case that it is killed."""

    members: tuple[ProcessIdentity, ...] = ()


class Exit(Frozen):
    """The end. `error` says why the payload could not even be launched."""

    exit_code: int | None
    limit: str | None = None
    finished_at: float
    error: str | None = None


class State:
    """The directory of one container."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "stdout.log"
        self.complaints = directory / "shim.log"

    def placed(self) -> Placed | None:
        return self._read("spec.json", Placed)

    def shim(self) -> ProcessIdentity | None:
        return self._read("identity.json", ProcessIdentity)

    def child(self) -> Child | None:
        return self._read("child.json", Child)

    def tree(self) -> Tree:
        return self._read("tree.json", Tree) or Tree()

    def exit(self) -> Exit | None:
        return self._read("exit.json", Exit)

    def place(self, placed: Placed) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write("spec.json", placed)

    def renew(self, placed: Placed) -> None:
        """Make it as if `placed` had never run. Cut short, it is an interrupted start, which settles as lost."""
        self.place(placed)
        # The end goes last: until then the run that is over is what is known.
        for name in ("tree.json", "child.json", "identity.json", "exit.json"):
            (self.directory / name).unlink(missing_ok=True)

    def guard(self, shim: ProcessIdentity) -> None:
        self._write("identity.json", shim)

    def launched(self, child: Child) -> None:
        self._write("child.json", child)

    def seen(self, tree: Tree) -> None:
        self._write("tree.json", tree)

    def finish(self, end: Exit) -> None:
        self._write("exit.json", end)

    def lock(self) -> AbstractContextManager[bool]:
        """Whether this process alone may now launch or settle the container."""
        return try_lock(self.directory / "lock")

    def _read(self, name: str, kind: type[Record]) -> Record | None:
        return read_record(self.directory / name, kind)

    def _write(self, name: str, record: Frozen) -> None:
        write_record(self.directory / name, record)
