"""What a supervisor writes into <home>/supervisor: its own identity, that of every part, and the status.

With these a later supervisor finds what an earlier one left behind when it was killed.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from deploy.embedded.part import PartStatus
from shared.artifacts import write_atomically
from shared.contracts.frozen import Frozen
from shared.processes.files import read_record, write_record
from shared.processes.identity import ProcessIdentity
from shared.processes.tree import ProcessTree

LOG_BYTES = 10 << 20


class Started(Frozen):
    """A part that was started and, as far as is known, not yet ended."""

    name: str
    tree: ProcessTree
    started_at: float
    stop_signal: signal.Signals
    grace_s: float


class Records:
    """The files of the supervisor of one home."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "supervisor"
        self._parts = self._directory / "parts"
        self._logs = home / "logs"
        for directory in (self._parts, self._logs):
            directory.mkdir(parents=True, exist_ok=True)
        self.lock = self._directory / "lock"

    def supervisor(self) -> ProcessIdentity | None:
        """Who supervises this home, or did last."""
        return read_record(self._directory / "supervisor.json", ProcessIdentity)

    def supervise(self, identity: ProcessIdentity) -> None:
        write_record(self._directory / "supervisor.json", identity)

    def started(self) -> list[Started]:
        """Parts on record, the latest first."""
        found = [part for path in self._parts.glob("*.json") if (part := read_record(path, Started))]
        return sorted(found, key=lambda part: part.started_at, reverse=True)

    def start(self, part: Started) -> None:
        write_record(self._parts / f"{part.name}.json", part)

    def end(self, name: str) -> None:
        (self._parts / f"{name}.json").unlink(missing_ok=True)

    def show(self, status: dict[str, PartStatus]) -> None:
        plain = {name: part.model_dump(mode="json") for name, part in status.items()}
        write_atomically(self._directory / "status.json", json.dumps(plain, indent=2))

    def status(self) -> dict[str, PartStatus]:
        try:
            plain = json.loads((self._directory / "status.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return {name: PartStatus.model_validate(part) for name, part in plain.items()}

    def log(self, name: str) -> Path:
        """Where a part's output goes. Moves a large log aside: one predecessor is kept."""
        path = self._logs / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path
