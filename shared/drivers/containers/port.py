"""The container port: what every container driver can do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import Field

from shared.contracts.frozen import Frozen


class Mount(Frozen):
    """A file or directory the container sees, at the same path as outside."""

    path: Path
    read_only: bool = True


class ContainerSpec(Frozen):
    """A container to run. `env` is the whole environment: nothing is inherited.

    An `isolated` container has no network, sees nothing but the system's programs, its mounts without what is `hidden`
    below them, and its own empty /tmp, /run and /dev/shm, writes nowhere but there and into its writable mounts, and
    holds no capability. Its interpreter and `cwd` must be mounts; the most specific path wins. A path that does not
    exist at the start is not hidden. `memory_bytes` bounds the memory of the whole tree, its files in /tmp, /run and
    /dev/shm included, `time_limit_s` its life from each start. Where it cannot be isolated it does not start.

    With a container engine even a container that is not isolated sees only the image and its mounts, which provide the
    interpreter where the image lacks it. The fields from `image` on are for an engine; processes need none of them.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    hidden: tuple[Path, ...] = ()
    isolated: bool = False
    memory_bytes: int | None = None
    time_limit_s: float | None = None
    image: str | None = Field(None, description="Default: the driver's.")
    devices: tuple[int, ...] = Field((), description="Indices of the GPUs it is given.")
    capabilities: tuple[str, ...] = Field((), description="Capabilities of one that is not isolated, e.g. SYS_NICE.")
    shm_bytes: int | None = Field(
        None, description="Size of /dev/shm; default: memory_bytes, or what the engine gives."
    )
    pids: int | None = Field(None, description="Processes and threads; default: 4096 when isolated, else unlimited.")


class ContainerState(StrEnum):
    RUNNING = "running"
    EXITED = "exited"


class ContainerInfo(Frozen):
    """Status of a container. `exit_code` is negative for a signal; `limit` names what ended it:
    `memory`, `time`, or `lost` when its end was not observed (power cut, killed shim) and `exit_code` is unknown.

    `isolation` lists the isolation in force, `limits` the limits; one that is sampled can be exceeded for a moment.
    """

    name: str
    state: ContainerState
    labels: dict[str, str]
    started_at: float
    finished_at: float | None = None
    exit_code: int | None = None
    limit: str | None = None
    isolation: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class ContainerError(Exception):
    """A container could not be started, stopped or read; the message includes what to do."""


class Containers(Protocol):
    """A place where containers run. Every call may be repeated; names are unique."""

    async def start(self, spec: ContainerSpec) -> ContainerInfo:
        """Start `spec`, or return the container of that name if it exists, running or exited.

        Returns as soon as the process is launched. Raises ContainerError when it cannot be launched.
        """
        ...

    async def revive(self, name: str) -> ContainerInfo:
        """Start an exited container again as it was specified, or return it if it runs.

        Raises ContainerError for an unknown name, and when it cannot be launched.
        """
        ...

    async def stop(self, name: str, grace_s: float) -> None:
        """SIGTERM, wait up to `grace_s`, then SIGKILL the whole tree. Returns when nothing of it is left.

        Unknown or exited names are fine. Raises ContainerError when something survives.
        """
        ...

    async def kill(self, name: str) -> None:
        """SIGKILL the whole tree and return when nothing of it is left, as `stop` with no grace."""
        ...

    async def inspect(self, name: str) -> ContainerInfo | None:
        """The container's state, or None when no such name is known. Does not block."""
        ...

    async def list(self, labels: dict[str, str]) -> list[ContainerInfo]:
        """List the containers that have all `labels`, oldest first."""
        ...

    async def logs(self, name: str, tail: int = 100) -> str:
        """The last `tail` lines of its stdout and stderr; empty for an unknown name."""
        ...

    async def memory_bytes(self, name: str) -> int:
        """Memory of the whole process tree now; 0 when nothing runs."""
        ...

    async def why_not_isolated(self) -> str | None:
        """Why this place cannot isolate containers, and what mends it; None where it can.

        Raises ContainerError where that cannot be asked.
        """
        ...

    async def remove(self, name: str) -> None:
        """Forget an exited container and its logs. Raises ContainerError while it runs."""
        ...
