"""Payloads for containers, and how a test waits for what they do: through files, which every driver shows alike."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.config.tables import JobsConfig
from shared.drivers.containers.port import ContainerInfo, Containers, ContainerSpec, ContainerState, Mount

MEBIBYTE = 1 << 20
FOREVER = "import time; time.sleep(600)"
INTERPRETER = tuple(Mount(path=path) for path in JobsConfig(python=Path(sys.executable)).mounted)
WITHIN_S = 30


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.02)


@dataclass
class Work:
    """A directory to work in, and the shortest way to a specification of a Python payload."""

    directory: Path

    def spec(self, code: str, *, name: str = "payload", mounts: tuple[Mount, ...] = (), **more: Any) -> ContainerSpec:
        output = Mount(path=self.directory, read_only=False)
        command = (sys.executable, "-I", "-S", "-c", code)
        return ContainerSpec(
            name=name, command=command, cwd=self.directory, mounts=(*INTERPRETER, output, *mounts), **more
        )

    async def written(self, name: str) -> str:
        """The content of a file in the directory, as soon as it is there."""
        path = self.directory / name
        await until(path.is_file)
        return path.read_text()

    def lives(self, name: str) -> bool:
        """Whether the process that announced itself as `name` is there: it holds a lock as long as it lives."""
        with (self.directory / name).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def announce(name: str, then: str = FOREVER) -> str:
    """Code that writes its pid to a file, completely or not at all, locks it for life, and goes on."""
    return (
        "import fcntl, os; announced = open('t', 'w'); fcntl.flock(announced, fcntl.LOCK_EX); "
        f"announced.write(str(os.getpid())); announced.flush(); os.rename('t', {name!r}); {then}"
    )


def fleeing(then: str) -> str:
    """Code with a grandchild in a session of its own and an empty environment, orphaned by its parent."""
    child = [sys.executable, "-I", "-S", "-c", announce("fled")]
    return (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        os.execve({sys.executable!r}, {child!r}, {{}})\n"
        "    os._exit(0)\n"
        f"os.wait()\n{then}"
    )


async def ended(containers: Containers, name: str = "payload") -> ContainerInfo:
    async with asyncio.timeout(WITHIN_S):
        while True:
            info = await containers.inspect(name)
            assert info is not None
            if info.state is ContainerState.EXITED:
                return info
            await asyncio.sleep(0.02)


async def result(containers: Containers, spec: ContainerSpec) -> tuple[int | None, str]:
    """Exit code and output of a payload; skips where an isolated one is not separated at all."""
    started = await containers.start(spec)
    if spec.isolated and not {"network", "filesystem"} <= set(started.isolation):
        pytest.skip(f"this machine grants no namespaces: isolation is only {started.isolation}")
    info = await ended(containers, spec.name)
    return info.exit_code, await containers.logs(spec.name)
