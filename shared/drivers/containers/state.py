"""The files of one container, from which driver and shim know everything: nothing is kept in memory.

spec.json what was asked · identity.json the shim · child.json the payload · tree.json its members · exit.json the end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shared.contracts.frozen import Frozen
from shared.drivers.containers.port import ContainerSpec
from shared.processes.identity import ProcessIdentity

Record = TypeVar("Record", bound=Frozen)
MARKER = "SOULFORGE_CONTAINER"


class Placed(Frozen):
    """What was asked. `token` is unique to this run and stands in the environment of all its processes."""

    token: str
    placed_at: float
    spec: ContainerSpec

    @property
    def mark(self) -> str:
        return f"{MARKER}={self.token}"


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

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether this process alone may now launch or settle the container. Released by the kernel at its death."""
        with (self.directory / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _read(self, name: str, kind: type[Record]) -> Record | None:
        try:
            return kind.model_validate_json((self.directory / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError:
            # Only a power cut leaves half a file, and after one the boot id says that nothing runs.
            return None

    def _write(self, name: str, record: Frozen) -> None:
        partial = self.directory / f".{name}.{os.getpid()}"
        with partial.open("w") as file:
            file.write(record.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.directory / name)
