"""The services' side of the embedder: a child process started on first use, ended when idle, restarted after a crash."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import numpy as np
import structlog

from services.harvester.embedding.model import DIMS, MODEL

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

log = structlog.get_logger()

CHILD = "services.harvester.embedding.child"
CHUNK = 128  # texts in one request: a second or a few, so that a deadline means something
START_S = 120.0
CHUNK_S = 120.0
IDLE_S = 60.0
SETUP = "run `make setup`, or set jobs.python in soulforge.toml to an interpreter that has torch and the model"


class EmbedderMissing(Exception):
    """This installation cannot embed; the message names what is missing and what to do."""


class EmbedderFailed(Exception):
    """The embedder died or fell silent twice over the same texts."""


class Embedder:
    """Texts to vectors. One child at a time; calls wait for each other. Use as an async context manager."""

    def __init__(self, python: Path, project: Path, idle_s: float = IDLE_S) -> None:
        self.python = python
        self.project = project
        self.idle_s = idle_s
        self._child: Process | None = None
        self._busy = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of `texts`, (n, 384), each of length 1, or zeros where the model cannot read the text.

        Cosine is their dot product.

        Raises EmbedderMissing, EmbedderFailed. May be repeated; the same text gives the same vector up to rounding.
        """
        async with self._busy:
            self._rest()
            try:
                parts = [await self._chunk(texts[at : at + CHUNK]) for at in range(0, len(texts), CHUNK)]
            finally:
                self._idle = asyncio.create_task(self._end_when_idle())
        return np.concatenate(parts) if parts else np.empty((0, DIMS), dtype=np.float32)

    async def end(self) -> None:
        """End the child and give its memory back; the next call starts another."""
        async with self._busy:
            self._rest()
            await self._kill()

    def _rest(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None

    async def _end_when_idle(self) -> None:
        await asyncio.sleep(self.idle_s)
        async with self._busy:
            await self._kill()

    async def _chunk(self, texts: Sequence[str]) -> NDArray[np.float32]:
        for _ in range(2):
            child = await self._started()
            try:
                return await asyncio.wait_for(_ask(child, texts), CHUNK_S)
            except (OSError, EOFError, TimeoutError) as error:
                log.warning("embedder lost", error=type(error).__name__)
                await self._kill()
            except asyncio.CancelledError:
                await self._kill()  # half an answer is in the pipe: no one may read on from there
                raise
        raise EmbedderFailed(
            f"the embedder died twice over the same {len(texts)} texts; `harvest.likeness.by_meaning = false` in "
            "soulforge.toml harvests without it"
        )

    async def _started(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        await self._kill()
        try:
            self._child = await asyncio.create_subprocess_exec(
                str(self.python),
                "-m",
                CHILD,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=self.project,
                env=_environment(self.project),
                start_new_session=True,  # a Ctrl-C is the parent's to answer
            )
        except OSError as error:
            raise EmbedderMissing(f"cannot start {self.python}: {error.strerror}; {SETUP}") from None
        try:
            await asyncio.wait_for(_greeting(self._child), START_S)
        except BaseException:
            await self._kill()
            raise
        return self._child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.kill()
        if child.stdin:
            child.stdin.close()
        await child.wait()


async def _greeting(child: Process) -> None:
    assert child.stdout is not None
    line = await child.stdout.readline()
    try:
        greeting = json.loads(line)
    except json.JSONDecodeError:
        raise EmbedderMissing(f"the embedder ended before it was ready; {SETUP}") from None
    if greeting.get("model") != MODEL or greeting.get("dims") != DIMS:
        raise EmbedderMissing(f"the embedder cannot load {MODEL}: {greeting.get('error', greeting)}; {SETUP}")


async def _ask(child: Process, texts: Sequence[str]) -> NDArray[np.float32]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(list(texts)).encode() + b"\n")
    await child.stdin.drain()
    answer = await child.stdout.readexactly(len(texts) * DIMS * 4)
    return np.frombuffer(answer, dtype="<f4").reshape(len(texts), DIMS)


def _environment(project: Path) -> dict[str, str]:
    """The whole environment of the child: nothing of the service's own gets in, no GPU, no network look-ups."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONPATH": str(project),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "2",
        # Threads that spin while they wait bring a shared machine to a crawl.
        "OMP_WAIT_POLICY": "PASSIVE",
        "LANG": "C.UTF-8",
    }
