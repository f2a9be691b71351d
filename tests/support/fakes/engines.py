"""Fake engines for tests: started with their faults, waited for, and ended with everything that came of them."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import psutil

from shared.config.settings import PROJECT
from shared.drivers.inference.vllm import Vllm

BASE = "base"
READY_S = 30.0
POLL_S = 0.05


class FakeEngine:
    """One fake vLLM as a process, and the driver that speaks to it, on its socket or, with `port`, on that."""

    def __init__(self, socket: Path, faults: dict[str, object], base: str = BASE, port: int | None = None) -> None:
        command = (
            sys.executable,
            "-m",
            "tests.support.fakes.fake_vllm",
            *(("--port", str(port)) if port else ("--uds", str(socket))),
            "--served-model-name",
            base,
        )
        self._env = {**os.environ, **{f"FAKE_VLLM_{name.upper()}": _word(value) for name, value in faults.items()}}
        self._command = (*command, "--enable-lora", "--max-loras", "4")
        self.vllm = Vllm(f"http://127.0.0.1:{port}" if port else f"unix://{socket}")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, cwd=PROJECT, env=self._env)

    def restart(self) -> None:
        """Kill it, and start it again at the same address."""
        self.end()
        self.process = self._start()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []

    def end(self) -> None:
        for child in self.children():
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def fake_engine(
    wait: bool = True, socket: Path | None = None, base: str = BASE, port: int | None = None, **faults: object
) -> AsyncIterator[FakeEngine]:
    """A fake engine with these fields of `vllm_faults.Faults`; `file` names the file of faults."""
    with TemporaryDirectory(prefix="fake-engine-") as folder:
        running = FakeEngine(socket or Path(folder, "engine.sock"), faults, base, port)
        try:
            if wait:
                await until(running.vllm.healthy)
            yield running
        finally:
            running.end()


async def until(true: Callable[[], object], within_s: float = READY_S) -> None:
    """Wait until `true`, a function or a coroutine function, says so."""
    deadline = monotonic() + within_s
    while True:
        said = true()
        if await said if inspect.isawaitable(said) else said:
            return
        if monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s")
        await asyncio.sleep(POLL_S)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
