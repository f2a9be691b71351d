"""The whole embedded stack, run as a person runs it: by the command line, on a home of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import httpx
import psutil

from deploy.embedded.state import SupervisorState, read_living
from deploy.home import claim
from shared.config.model import embedded
from shared.config.settings import PROJECT, Settings
from tests.support.model import MODEL
from tests.support.servers import free_port_base

SOULFORGE = str(Path(sys.executable).with_name("soulforge"))
MODELS = MODEL.parent
COMMAND_S = 1800  # a ritual, beside other tests
UP_S = 420


@dataclass(frozen=True)
class Ritual:
    """What `make ritual` printed, and the ritual's report at its end."""

    output: str
    report: dict[str, Any]


@contextmanager
def stack_of_its_own() -> Iterator[Stack]:
    """A home and ports for a stack that is not up yet; down at the end, with nothing left running."""
    home = Path(tempfile.mkdtemp(prefix="soulforge-stack-")) / "home"
    one = Stack(home, free_port_base())
    try:
        yield one
    finally:
        one.run("down")
        still = left_running(home)
        shutil.rmtree(home.parent, ignore_errors=True)
        assert not still, still


class Stack:
    """One home with its stack."""

    def __init__(self, home: Path, port_base: int) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SOULFORGE_")},
            "SOULFORGE_HOME": str(home),
            "SOULFORGE_PORT_BASE": str(port_base),
            "SOULFORGE_MODELS": str(MODELS),
            "COLUMNS": "160",
        }
        self.settings = Settings(home=home, port_base=port_base, models=MODELS)
        self.rune_url = embedded().rune_url(self.settings)

    def run(self, *words: str, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        return self._command([SOULFORGE, *words], timeout_s)

    def ritual(self, persona: str) -> subprocess.CompletedProcess[str]:
        """What `make ritual` runs, with the stack left up."""
        return self._command([sys.executable, "-m", "deploy.ritual", persona, "--keep"], COMMAND_S)

    async def up_with_short_jobs(self) -> str:
        """Put the stack up with the jobs of tests/support/fakes; what it announced. `down` ends it as any other."""
        claim(self.home)
        log = self.settings.logs_dir / "up.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            # Forked away: a child of the tests would stay a zombie, which counts as alive.
            command = ["setsid", "--fork", sys.executable, "-m", "tests.support.fakes.short_jobs"]
            subprocess.run(command, env=self.environment, cwd=PROJECT, stdout=file, stderr=file, check=True)  # noqa: ASYNC221

        async def is_up() -> bool:
            return "everything is up" in log.read_text()

        await eventually(is_up, UP_S, f"the stack with the short jobs is up: see {log}")
        return log.read_text()

    def is_up(self) -> bool:
        return read_living(self.home) is not None

    def down(self) -> None:
        stopped = self.run("down")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr

    def newest(self) -> dict[str, Any]:
        """The newest ritual, as `soulforge show --json` tells it."""
        listed = self.run("rituals")
        ritual = listed.stdout.splitlines()[1].split()[0]
        return self.show(ritual)

    def show(self, ritual: str) -> dict[str, Any]:
        shown = self.run("show", ritual, "--json")
        assert shown.returncode == 0, shown.stderr
        report: dict[str, Any] = json.loads(shown.stdout)
        return report

    async def connect(self) -> asyncpg.Connection[Any]:
        return await asyncpg.connect(self.settings.database_url("bootstrap"))

    def pid(self, part: str) -> int:
        pid = self.supervisor().parts[part].pid
        assert pid is not None
        return pid

    def supervisor(self) -> SupervisorState:
        state = read_living(self.home)
        assert state is not None
        return state

    def _command(self, command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
    """Poll until `condition` holds; fails with `what` when it does not in time."""
    deadline = monotonic() + within_s
    while not await condition():
        assert monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.2)


def left_running(home: Path) -> list[str]:
    """Every process that still works in or for this home."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and any(str(home) in word for word in process.info["cmdline"] or ()):
            found.append(" ".join(process.info["cmdline"]))
    return found


async def ask(url: str, model: str, prompt: str, max_tokens: int = 80) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    async with httpx.AsyncClient(timeout=120) as client:
        answered = await client.post(f"{url}/v1/chat/completions", json=body)
    answered.raise_for_status()
    return str(answered.json()["choices"][0]["message"]["content"])
