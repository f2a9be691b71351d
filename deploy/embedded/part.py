"""A part of the embedded stack: its process, its readiness check, its delays between restarts."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx

from shared.contracts.frozen import Frozen
from shared.processes.tree import ProcessTree

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
HEALTHY_S = 60.0
Ready = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Part:
    """A process to run. `env` is the whole environment.

    `ready` checks whether it can work; what it raises counts as not ready. Without it a running part is ready. A part that
    was ready is asked `live`, by default the same, every `probe_every_s`, which also bounds each probe; when `probes` in a
    row failed, it hangs: it is killed and restarted. So is one that was restarted and is not ready within `ready_s`, unless
    it answers `live`.
    `stop_signal` is sent to the first process only; after `grace_s` its whole tree is killed.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    ready: Ready | None = None
    ready_s: float = 60.0
    live: Ready | None = None
    probe_every_s: float = 5.0
    probes: int = 6
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    needs: tuple[str, ...] = ()


class PartState(StrEnum):
    WAITING = "waiting"  # for what it needs
    STARTING = "starting"  # runs, not yet ready
    READY = "ready"
    RESTARTING = "restarting"  # exited, waits for its delay
    STOPPING = "stopping"
    STOPPED = "stopped"


class PartStatus(Frozen):
    """The status of a part. `last_exit` is negative for a signal; `since` is when it entered its state.

    `tree` is kept until none of its processes is left; `stop_signal` and `grace_s` are those of the part.
    """

    state: PartState = PartState.WAITING
    since: float
    tree: ProcessTree | None = None
    restarts: int = 0
    last_exit: int | None = None
    stop_signal: signal.Signals
    grace_s: float

    @property
    def pid(self) -> int | None:
        return self.tree.leader.pid if self.tree and self.tree.leader else None


class PartError(Exception):
    """A part cannot be run as described; the message names it and what to do."""


async def answers(url: str) -> bool:
    """True when a server answers 200 at `url`."""
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Order parts after their needs, else as given. Raises PartError for unknown needs and cycles."""
    ordered: list[Part] = []
    waiting = list(parts)
    while waiting:
        done = {part.name for part in ordered}
        nearest = next((part for part in waiting if done.issuperset(part.needs)), None)
        if nearest is None:
            stuck = ", ".join(f"{part.name} needs {' and '.join(sorted({*part.needs} - done))}" for part in waiting)
            raise PartError(f"no order in which these parts could start: {stuck}")
        ordered.append(nearest)
        waiting.remove(nearest)
    return ordered


def delay_s(failures: int) -> float:
    """Seconds before the restart that follows the `failures`-th exit in a row, from 1."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 16)))


def failures_in_a_row(before: int, ready_for_s: float) -> int:
    """The count after one more exit: a run that was ready for HEALTHY_S or longer resets it."""
    return 1 if ready_for_s >= HEALTHY_S else before + 1


def exit_line(name: str, code: int, failures: int) -> str:
    """The line that announces an unexpected exit."""
    how = f"signal {-code}" if code < 0 else f"code {code}"
    return f"{name} exited with {how}; restarting in {delay_s(failures):g} s ({ordinal(failures)} time)"


def ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
