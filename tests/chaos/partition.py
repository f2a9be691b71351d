"""A proxy in front of a server, which stalls what passes or cuts every connection, at will."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

CHUNK = 65536


class Proxy:
    """Passes bytes on both ways; see `stall` and `cut`."""

    def __init__(self, address: int | Path, upstream: int | Path) -> None:
        """Listen at a TCP port of loopback or a socket's path, for a server at another."""
        self._address, self._upstream = address, upstream
        self._open = asyncio.Event()
        self._open.set()
        self._refuses = False
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        if isinstance(self._address, Path):
            self._address.parent.mkdir(mode=0o700, exist_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self._address)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._address)

    async def stall(self, seconds: float) -> None:
        """As a network that loses every packet: connections live, and nothing arrives; later all of it does."""
        self._open.clear()
        await asyncio.sleep(seconds)
        self._open.set()

    async def cut(self, seconds: float) -> None:
        """As a firewall that resets: every connection breaks, and new ones end at once."""
        self._refuses = True
        self._break()
        await asyncio.sleep(seconds)
        self._refuses = False

    async def close(self) -> None:
        if self._server:
            self._server.close()
        self._break()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _break(self) -> None:
        for task in self._connections:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            up_reader, up_writer = await self._connect()
            ways = [
                asyncio.create_task(self._pass(reader, up_writer)),
                asyncio.create_task(self._pass(up_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                up_writer.close()
                writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(self._upstream)
        return await asyncio.open_connection("127.0.0.1", self._upstream)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
