"""Receive an upload: streamed to the disk and synced, with a limit of its size, of its time, and of the room that it leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ByteSize

from services.gateway.errors import RETRY_AFTER_S, Refusal
from services.gateway.files.form import FILE, Form
from services.gateway.request import Gone, declared_length
from shared.storage.artifacts import make_folder

if TYPE_CHECKING:
    from pathlib import Path

    from services.gateway.settings import GatewaySettings
    from shared.asgi.replies import Receive, Scope

FRAME = 64 * 1024  # bytes of a form around its file
BLOCK = 1024**2
LEAST_RATE = 16 * 1024  # bytes a second, on average
AT_ONCE = 8


@dataclass(frozen=True)
class Received:
    """A file that was written whole. `bytes` is its size."""

    filename: str
    bytes: int
    sha256: str


class Uploads:
    """Receives files, a few at once. `min_free`: what the disk keeps for the rest of the stack."""

    def __init__(self, settings: GatewaySettings, folder: Path, min_free: ByteSize) -> None:
        self._largest, self._within_s = int(settings.max_file), settings.read_within_s
        self._folder, self._min_free = folder, min_free
        self._under_way = 0

    async def receive(self, scope: Scope, receive: Receive, name: str) -> Received:
        """Write the file of a form under this name. Raises Refusal or Gone, and leaves nothing behind then."""
        if (declared := declared_length(scope)) > self._largest + FRAME:
            raise self._too_large()
        form = Form(dict(scope["headers"]).get(b"content-type", b""))
        if self._under_way >= AT_ONCE:
            raise Refusal(503, "busy", "too many uploads at once", RETRY_AFTER_S, unread=True)
        self._under_way += 1
        try:
            return await self._receive(receive, form, name, declared)
        except BaseException as error:
            (self._folder / name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _no_room(f"{name} cannot be written ({error.strerror})") from error
            raise
        finally:
            self._under_way -= 1

    async def _receive(self, receive: Receive, form: Form, name: str, declared: int) -> Received:
        make_folder(self._folder)
        self._expect_room(declared)
        file = _File(self._folder / name)
        try:
            await self._read(receive, form, file)
            filename = form.finish()
            await asyncio.to_thread(file.sync)
        finally:
            file.close()
        return Received(filename, file.size, file.digest.hexdigest())

    async def _read(self, receive: Receive, form: Form, file: _File) -> None:
        """Read the body to its end. The longer it is, the longer a client may take."""
        began, received, more, block = asyncio.get_running_loop().time(), 0, True, bytearray()
        while more:
            data, more = await self._next(receive, began + self._within_s + received / LEAST_RATE)
            received += len(data)
            block += form.feed(data)
            if received > self._largest + FRAME or file.size + len(block) > self._largest:
                raise self._too_large()
            if len(block) >= BLOCK or not more:
                self._expect_room(len(block))
                await asyncio.to_thread(file.write, bytes(block))
                block.clear()

    async def _next(self, receive: Receive, deadline: float) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise Refusal(
                408,
                "request_timeout",
                f"the upload is too slow: it may take {self._within_s:g} s, and 1 s for each {LEAST_RATE // 1024} KiB",
                unread=True,
            ) from None
        if message["type"] == "http.disconnect":
            raise Gone
        return message.get("body", b""), message.get("more_body", False)

    def _expect_room(self, more: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < more + self._min_free:
            shown = " and ".join(ByteSize(size).human_readable() for size in (more, self._min_free))
            raise _no_room(f"{ByteSize(free).human_readable()} are free, {shown} (runtime.min_free) are needed")

    def _too_large(self) -> Refusal:
        return Refusal(
            413, "file_too_large", f"a file may have {self._largest} bytes (gateway.max_file)", param=FILE, unread=True
        )


class _File:
    """A new file, which is written by one thread at a time; `close` waits for it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self.size, self.digest = 0, hashlib.sha256()

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self._file.flush()  # so that a full disk is found out here
        self.digest.update(block)
        self.size += len(block)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with suppress(OSError):  # what was not written was reported
            self._file.close()


def _no_room(why: str) -> Refusal:
    return Refusal(507, "insufficient_storage", f"no room for the file: {why}; nothing of it is kept", unread=True)
