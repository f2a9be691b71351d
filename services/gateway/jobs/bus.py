"""What jobs send on the bus: records for the harvester, an intent, and commands about a ritual."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

if TYPE_CHECKING:
    from nats.aio.client import Client

    from shared.contracts.intent import TrainingIntent
    from shared.contracts.message import Message

HEADERS = 1024  # bytes, at most
STORED_S, ANSWERED_S = 5.0, 3.0  # for NATS to store a message, and for the harvester to answer an intent


class BusAwayError(Exception):
    """NATS, or who answers there, is away: nothing is wrong with what was sent, and it is sent again."""

    def __init__(self, who: str, message: str) -> None:
        super().__init__(message)
        self.waits_for = f"{who}, which does not answer"


async def publish(client: Client, message: Message, id: str) -> None:
    """Publish and return once it is stored. The same id is stored once in an hour.

    Raises BusAwayError, and MaxPayloadError for what the bus takes from none.
    """
    if not client.is_connected:
        raise BusAwayError("NATS", "NATS does not answer")
    body = message.model_dump_json(exclude_defaults=True).encode()
    # nats-py does not count the headers, and the server ends the connection for a message that is too large with them.
    if len(body) + HEADERS > client.max_payload:
        raise MaxPayloadError
    try:
        await client.jetstream().publish(message.subject, body, timeout=STORED_S, headers={"Nats-Msg-Id": id})
    except (NatsError, OSError, TimeoutError) as error:
        raise BusAwayError(
            "NATS", f"NATS did not store {message.subject}: {str(error) or type(error).__name__}"
        ) from error


async def request_ritual(client: Client, intent: TrainingIntent) -> str | None:
    """Ask for a ritual; returns why it is refused, None where it is opened. Raises BusAwayError.

    Asked again with the same id it opens no second one.
    """
    body = intent.model_dump_json(exclude_defaults=True).encode()
    try:
        reply = await client.request(intent.subject, body, timeout=ANSWERED_S)
    except (NatsError, OSError, TimeoutError) as error:
        why = f"the harvester does not answer: {str(error) or type(error).__name__}"
        raise BusAwayError("the harvester", why) from error
    answer = json.loads(reply.data)
    refused = answer.get("error")
    return str(refused.get("description", refused)) if refused else None
