"""A home under supervision, with small Python programs as parts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from deploy.embedded.part import Part, PartState, PartStatus
from deploy.embedded.supervisor import Supervisor
from tests.support.payloads import FOREVER


def part(home: Path, name: str, code: str = FOREVER, **more: Any) -> Part:
    return Part(name=name, command=(sys.executable, "-I", "-S", "-c", code, name), cwd=home, **more)


class House:
    """A home under supervision, and everything that was said of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []
        self.seen: list[tuple[str, PartState]] = []
        self._supervisors: list[Supervisor] = []

    def supervise(self, *parts: Part) -> Supervisor:
        supervisor = Supervisor(self.home, parts, self.said.append, self._progress)
        self._supervisors.append(supervisor)
        return supervisor

    async def leave(self) -> None:
        for supervisor in self._supervisors:
            supervisor.request_stop()
            supervisor.request_stop()
            await supervisor.stop()

    def _progress(self, name: str, status: PartStatus) -> None:
        self.seen.append((name, status.state))
