"""Fake engines for tests: started with their faults, waited for, and ended with everything that came of them."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic

import psutil

from shared.config.settings import PROJECT
from shared.drivers.inference.vllm import Vllm

BASE = "base"
KEY = "the key of the fake engines"
READY_S = 30.0
POLL_S = 0.05


class FakeEngine:
    """One fake vLLM as a process, and the driver that speaks to it."""

    def __init__(self, port: int, faults: dict[str, object], key: str = KEY, base: str = BASE) -> None:
        command = (
            sys.executable,
            "-m",
            "tests.support.fakes.fake_vllm",
            "--port",
            str(port),
            "--served-model-name",
            base,
        )
        env = {
            **os.environ,
            "SOULFORGE_ENGINE_KEY": key,
            **{f"FAKE_VLLM_{name.upper()}": _word(value) for name, value in faults.items()},
        }
        self.url = f"http://127.0.0.1:{port}"
        self.vllm = Vllm(self.url, key)
        self._command, self._env = (*command, "--enable-lora", "--max-loras", "4"), env
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, cwd=PROJECT, env=self._env)

    def restart(self) -> None:
        """Kill it, and start it again on the same port."""
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
    wait: bool = True, port: int | None = None, key: str = KEY, base: str = BASE, **faults: object
) -> AsyncIterator[FakeEngine]:
    """A fake engine with these fields of `vllm_faults.Faults`; `file` names the file of faults."""
    running = FakeEngine(port or free_port(), faults, key, base)
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
