"""A connection to NATS by the bare protocol: it sends what no client library would, and reads what the server refuses."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import nkeys

from shared.config.settings import Settings

OPTIONS = {"verbose": False, "headers": True, "echo": False}


class RawConnection:
    """Lines to the server, and its answers. Nothing may be delivered to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def publish(self, subject: str, body: bytes = b"", headers: bytes | None = None, reply: str = "") -> None:
        to = f"{subject} {reply}".rstrip().encode()
        if headers is None:
            self._writer.write(b"PUB %b %d\r\n%b\r\n" % (to, len(body), body))
        else:
            self._writer.write(
                b"HPUB %b %d %d\r\n" % (to, len(headers), len(headers) + len(body)) + headers + body + b"\r\n"
            )

    def subscribe(self, subject: str) -> None:
        """Subscribe, and end the subscription at once: only whether the server allows it counts."""
        self._writer.write(b"SUB %b 1\r\nUNSUB 1\r\n" % subject.encode())

    async def flush(self) -> None:
        """Return when the server has read everything. Raises ConnectionError with what it refused."""
        refused = await self.refusals()
        if refused:
            raise ConnectionError(refused[0])

    async def refusals(self) -> list[str]:
        """What the server refused of all that was sent before; it answers in order."""
        refused: list[str] = []
        try:
            self._writer.write(b"PING\r\n")
            await self._writer.drain()
            while (line := await self._reader.readline()) != b"PONG\r\n":
                if not line:
                    return [*refused, "closed"]
                if line.startswith(b"-ERR"):
                    refused.append(line.decode().strip())
                elif line == b"PING\r\n":
                    self._writer.write(b"PONG\r\n")
        except ConnectionError as error:
            refused.append(str(error))
        return refused


@asynccontextmanager
async def raw_connection(settings: Settings, key: Path | None) -> AsyncIterator[RawConnection]:
    """Connect with the seed in `key`, or without any."""
    address = urlsplit(settings.nats_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    nonce = json.loads((await reader.readline()).removeprefix(b"INFO "))["nonce"]
    signed = {}
    if key:
        pair = nkeys.from_seed(bytearray(key.read_bytes().strip()))
        signed = {"nkey": pair.public_key.decode(), "sig": b64encode(pair.sign(nonce.encode())).decode()}
    writer.write(b"CONNECT " + json.dumps({**OPTIONS, **signed}).encode() + b"\r\n")
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):  # the server may have closed it
            await writer.wait_closed()
