"""Translate the engine's description of a container into the port's. Pure: dictionaries in, values out."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Any, NewType

from shared.drivers.containers.docker_template import ISOLATED, NAME, PREFIX, TIME_LIMIT
from shared.drivers.containers.port import ContainerInfo, ContainerState

#: The answer of `GET /containers/{id}/json`.
Inspected = NewType("Inspected", dict[str, Any])

NEVER = "created"
OVER = ("exited", "dead", "removing")
SIGNALLED = 128
# Exit code that the engine records for a container whose end it did not observe.
LOST_EXIT = 255
# A process ended by its time limit may appear to have ended early: the engine's clock starts a little after it.
TIME_SLACK_S = 0.2


def describe(found: Inspected) -> ContainerInfo:
    state, labels = found["State"], found["Config"]["Labels"]
    over = not runs(found)
    started_at = _time(state["StartedAt"])
    return ContainerInfo(
        name=labels[NAME],
        state=ContainerState.EXITED if over else ContainerState.RUNNING,
        labels={key.removeprefix(PREFIX): value for key, value in labels.items() if key.startswith(PREFIX)},
        started_at=started_at or _time(found["Created"]) or 0.0,
        finished_at=_time(state["FinishedAt"]) if over else None,
        exit_code=_exit_code(state) if over and started_at else None,
        limit=_limit(found) if over and started_at else None,
        isolation=isolation(found["HostConfig"]),
    )


def runs(found: Inspected) -> bool:
    return bool(found["State"]["Running"]) or found["State"]["Status"] not in (NEVER, *OVER)


def never_ran(found: Inspected) -> bool:
    return bool(found["State"]["Status"] == NEVER)


def isolated(found: Inspected) -> bool:
    return bool(found["Config"]["Labels"].get(ISOLATED) == "yes")


def isolation(host: dict[str, Any]) -> tuple[str, ...]:
    """List the isolation of a container, according to the engine."""
    separations = {
        "process-group": True,
        "environment": True,
        "network": host.get("NetworkMode") == "none",
        "filesystem": True,
        "ipc": host.get("IpcMode") != "host",
        "capabilities": not host.get("Privileged") and bool(host.get("CapDrop")) and not host.get("CapAdd"),
        "pid": host.get("PidMode") != "host",
    }
    return tuple(name for name, holds in separations.items() if holds)


def resident_bytes(stats: dict[str, Any]) -> int:
    """Memory in use: anonymous and shared pages, without the page cache, which the kernel reclaims by itself."""
    memory = stats.get("memory_stats") or {}
    kinds = memory.get("stats") or {}
    if "anon" in kinds:  # cgroup v2
        return int(kinds["anon"]) + int(kinds.get("shmem", 0))
    if "total_rss" in kinds:
        return int(kinds["total_rss"]) + int(kinds.get("total_shmem", 0))
    return int(memory.get("usage", 0))


def _exit_code(state: dict[str, Any]) -> int | None:
    """The exit code, negative for a signal; None where it is unknown. An init reports a signal as 128 + its number."""
    code = int(state["ExitCode"])
    if _lost(state):
        return None
    number = code - SIGNALLED
    return -number if number in {member.value for member in signal.Signals} else code


def _limit(found: Inspected) -> str | None:
    state = found["State"]
    if _lost(state):
        return "lost"
    if _exit_code(state) != -signal.SIGKILL:
        return None
    if state["OOMKilled"]:
        return "memory"
    allowed = found["Config"]["Labels"].get(TIME_LIMIT)
    lived_s = (_time(state["FinishedAt"]) or 0.0) - (_time(state["StartedAt"]) or 0.0)
    return "time" if allowed and lived_s >= float(allowed) - TIME_SLACK_S else None


def _lost(state: dict[str, Any]) -> bool:
    return bool(state["Status"] == "dead") or int(state["ExitCode"]) == LOST_EXIT


def _time(stamp: str) -> float | None:
    """Seconds since the epoch; None for the engine's year 1, which means never."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    if whole.startswith("0001-"):
        return None
    zone = "" if "+" in whole or "+" in fraction else "+00:00"
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}{zone}").timestamp()
