"""A socket in front of an engine that a test cuts, or keeps silent, or uses to act between a client and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path


class Relay:
    """Passes bytes on both ways while `open`; while not, it takes connections and never answers."""

    def __init__(self, upstream: str, path: Path) -> None:
        self.url = f"unix://{path}"
        self.open = True
        self.before: Callable[[bytes], None] = lambda _: None  #: called with what is about to reach the engine
        self._path = path
        self._upstream = upstream.removeprefix("unix://")
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def cut(self) -> None:
        """As an engine that dies: its connections break, nobody listens."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        await asyncio.sleep(0)  # a transport is gone one turn after it was closed

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # even where the task was cancelled before it began

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, up_writer, lambda chunk: self.before(chunk)))
                both.create_task(self._pass(up_reader, writer, lambda _: None))
        except* ConnectionError:
            pass
        finally:
            up_writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before: Callable[[bytes], None]
    ) -> None:
        while chunk := await reader.read(65536):
            while not self.open:
                await asyncio.sleep(0.02)
            before(chunk)
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@asynccontextmanager
async def relay(upstream: str, path: Path) -> AsyncIterator[Relay]:
    one = Relay(upstream, path)
    await one.listen()
    try:
        yield one
    finally:
        await one.cut()
