"""A connection to NATS that no message can break or deceive by its headers, which anyone who may publish can choose."""

from __future__ import annotations

from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

log = structlog.get_logger()

FROM_A_STREAM = b"$JS.ACK."  # what the reply subject of every message from a stream begins with
OF_THE_SERVER = (Header.STATUS, Header.DESCRIPTION)


class BusClient(Client):
    """nats-py's client, with what it lacks where it reads headers (2.16).

    A header block that it cannot decode ends its reading task, and with it the connection, at every delivery. A status
    in a message from a stream is taken for the server's own: the message vanishes and comes back for ever.
    """

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


async def connect(url: str, **options: Any) -> BusClient:
    """Connect as `nats.connect` does, with the same options."""
    client = BusClient()
    await client.connect(url, **options)
    return client
