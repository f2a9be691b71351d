"""A connection to NATS with a role's key, which no message can break or deceive by its headers, and no refusal escapes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import Header

if TYPE_CHECKING:
    from shared.config.settings import Settings

log = structlog.get_logger()

FROM_A_STREAM = b"$JS.ACK."  # what the reply subject of every message from a stream begins with
OF_THE_SERVER = (Header.STATUS, Header.DESCRIPTION)
REFUSED_KEY = "authorization violation"
REFUSED_SUBJECT = "permissions violation"


class RefusedError(NatsError):
    """NATS refuses a key, or what its role may not do; the message has what to do."""


class BusClient(Client):
    """nats-py's client, with what it lacks (2.16).

    A header block that it cannot decode ends its reading task, and with it the connection, at every delivery. A status
    in a message from a stream is taken for the server's own: the message vanishes and comes back for ever. A refused
    request gets no answer: the server reports it beside, while the request waits for its timeout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.role = ""
        self._waiting: dict[asyncio.Future[str], str] = {}  # a request's refusal -> the subject it is published on

    async def request(self, subject: str, *args: Any, **options: Any) -> Msg:
        """Request as nats-py does. Raises RefusedError at once where the role may not publish on the subject."""
        refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        request = asyncio.ensure_future(super().request(subject, *args, **options))
        self._waiting[refused] = subject
        try:
            await asyncio.wait((request, refused), return_when=asyncio.FIRST_COMPLETED)
            if refused.done():
                raise RefusedError(
                    f"NATS refuses the role {self.role} ({refused.result()}): use the key of a role that may, in a file with "
                    "the name of its role"
                )
            reply: Msg = await request
            return reply
        finally:
            request.cancel()
            del self._waiting[refused]

    async def _process_err(self, err_msg: str) -> None:
        text = err_msg.strip().strip("'").lower()
        if REFUSED_SUBJECT in text:
            for refused, subject in self._waiting.items():
                # Without its inbox no answer arrives.
                if not refused.done() and (f'"{subject}"'.lower() in text or "subscription" in text):
                    refused.set_result(text)
        await super()._process_err(err_msg)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except (ValueError, LookupError) as error:
            log.warning("headers of a message not readable", error=type(error).__name__, size=len(headers))
            return None
        return found

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        if headers and reply.startswith(FROM_A_STREAM):
            headers = {name: value for name, value in headers.items() if name not in OF_THE_SERVER}
        message: Msg = super()._build_message(sid, subject, reply, data, headers)
        return message


async def connect(settings: Settings, role: str, **options: Any) -> BusClient:
    """Connect with the key of a role; `options` are those of `nats.connect`.

    Raises SettingsError without a key, and RefusedError where the server refuses it, unless it is to try for ever.
    """
    client = BusClient()
    key = settings.bus_key(role)
    client.role = key.stem if key else role
    if key:
        options["nkeys_seed"] = str(key)
    try:
        await client.connect(settings.nats_url, inbox_prefix=inbox_of(client.role), **options)
    except NatsError as error:
        await client.close()  # nats-py leaves the socket open
        if REFUSED_KEY not in str(error).lower():
            raise
        which = f"the key {key}" if key else "a connection without a key: set SOULFORGE_NATS_KEY"
        raise RefusedError(f"NATS refuses {which}") from error
    return client


def inbox_of(role: str) -> str:
    """The prefix of a role's inboxes: no other role may subscribe below it."""
    return f"_INBOX_{role}"
