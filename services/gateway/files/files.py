"""The files of clients: where they are kept, who sees them, and the loop that checks them."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from typing import TYPE_CHECKING

from services.gateway.errors import RETRY_AFTER_S, Refusal
from services.gateway.files import store
from services.gateway.files.checks import PARTIAL, Checks
from services.gateway.files.upload import Uploads
from services.gateway.settings import GatewaySettings
from services.gateway.store import database
from shared.contracts.scopes import Scope
from shared.runtime.loops import Loop
from shared.storage.artifacts import sync

if TYPE_CHECKING:
    from services.gateway.files.store import StoredFile
    from services.gateway.files.upload import Received
    from services.gateway.keys.client import Client
    from shared.asgi.replies import Receive
    from shared.asgi.replies import Scope as Request
    from shared.config.model import Configuration
    from shared.config.settings import Settings
    from shared.runtime.context import ServiceContext

ID = re.compile(r"file-[0-9a-f]{24}")
CHECK_EVERY_S = 30.0
OF_ONE_KEY = 2  # uploads at once


class Files:
    """A client sees the files of its own key; one with the scope `admin` sees all. Its methods raise Refusal."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        limits = configuration.section(GatewaySettings)
        self._home, self._folder = settings.home, store.folder_of(settings.home)
        self._uploads = Uploads(limits, self._folder, configuration.runtime.min_free)
        self._checks = Checks(settings.home)
        self._uploading: Counter[str] = Counter()  # by key
        self._context: ServiceContext | None = None

    def connect(self, context: ServiceContext) -> Loop:
        """Use the connections of this context, which are there only once the database is; returns the loop of the checks."""
        self._context = context
        settled = False

        async def run() -> float | None:
            nonlocal settled
            if not settled:
                await self._checks.settle(context.pool)
                settled = True
            return await self._checks.run(context.pool)

        return Loop("files", run, CHECK_EVERY_S, self._checks.woken)

    async def upload(self, client: Client, request: Request, receive: Receive) -> StoredFile:
        """Receive a file and record it; where that fails nothing of it stays. Raises Gone, too."""
        if client.key is None:
            raise Refusal(403, "insufficient_scope", "files belong to keys: send one", unread=True)
        async with database(self._context):
            pass  # refused before it is sent
        if self._uploading[client.key] >= OF_ONE_KEY:
            message = f"{OF_ONE_KEY} uploads of this key are under way: send the next when one has ended"
            raise Refusal(429, "rate_limit_exceeded", message, RETRY_AFTER_S, unread=True)
        id = f"file-{secrets.token_hex(12)}"
        self._uploading[client.key] += 1
        self._checks.writing.add(id)
        try:
            received = await self._uploads.receive(request, receive, id + PARTIAL)
            return await self._record(id, client.key, received)
        finally:
            self._uploading[client.key] -= 1
            self._checks.writing.discard(id)
            self._checks.woken.set()

    async def _record(self, id: str, key: str, received: Received) -> StoredFile:
        partial = self._folder / (id + PARTIAL)
        try:
            async with database(self._context) as pool:
                file = await store.insert_file(pool, self._home, id, key, received)
        except BaseException:
            partial.unlink()
            raise
        partial.rename(file.path)
        await asyncio.to_thread(sync, self._folder)
        return file

    async def find(self, id: str, client: Client) -> StoredFile | None:
        """The file of this id; None where this client has none that is not deleted."""
        if not ID.fullmatch(id):
            return None
        async with database(self._context) as pool:
            found = await store.get_file(pool, self._home, id)
        return found if found and not found.deleted_at and _owner(client) in (None, found.key) else None

    async def list(self, client: Client, after: str | None, limit: int, oldest_first: bool) -> list[StoredFile]:
        """The client's files by the time of their upload, from the one behind `after` on."""
        async with database(self._context) as pool:
            return await store.list_files(pool, self._home, _owner(client), after, limit, oldest_first)

    async def delete(self, file: StoredFile) -> None:
        """Remove the content; the row stays, and says when. Raises Refusal while a job uses it."""
        async with database(self._context) as pool:
            if not await store.mark_deleted(pool, file.id):
                raise Refusal(409, "file_in_use", f"a job that has not ended uses {file.id}: cancel it first")
        file.path.unlink(missing_ok=True)


def _owner(client: Client) -> str | None:
    """The key whose files a client sees; None where it sees all."""
    return None if client.has(Scope.ADMIN) else client.key or ""
