"""Routers: the decorator of a handler names the messages it consumes, and the durable consumers follow from that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage, NatsRouter, PullSub
from nats.aio.msg import Msg
from pydantic import ValidationError

from shared.contracts.message import Message
from shared.messaging.client import inbox_of
from shared.messaging.streams import Subscription

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[None]])
# Replies to the publisher of an invalid message; False where none waits for a reply.
AnswerInvalid = Callable[[Msg, str], Awaitable[bool]]


class PermanentError(Exception):
    """This message can never be handled as it is; the text is the reason, without the message's content."""


class Router(NatsRouter):
    """A FastStream router for the durable pull consumers of one service."""

    def __init__(self, service: str) -> None:
        # Set here: subscribers of a router do not get the broker's policy, and by default they reject at the first error.
        # The broker's middleware acknowledges (bus.py): FastStream would retry without delay what fails around it.
        super().__init__(ack_policy=AckPolicy.MANUAL)
        self.service = service
        self.subscriptions: list[Subscription] = []

    def consume(self, *messages: type[Message]) -> Callable[[Handler], Handler]:
        """Register the decorated handler for these messages; each is validated against its contract."""

        def decorate(handler: Handler) -> Handler:
            for message in messages:
                subscription = Subscription(self.service, message)
                self.subscriptions.append(subscription)
                self.subscriber(
                    message.subject,
                    stream=JStream(subscription.stream, declare=False),
                    durable=subscription.durable,
                    pull_sub=PullSub(batch_size=1, timeout=5),
                    inbox_prefix=f"{inbox_of(self.service)}.".encode(),
                    max_workers=1,
                    decoder=_decoder(message),
                    no_reply=True,  # else FastStream publishes to any subject that the header `reply_to` names
                )(handler)
            return handler

        return decorate


def _decoder(contract: type[Message]) -> Callable[[NatsMessage], Awaitable[Message]]:
    # The body is validated against the contract, whatever content type the publisher claims.
    async def decode(message: NatsMessage) -> Message:
        try:
            return contract.model_validate_json(message.body)
        except ValidationError as error:
            raise PermanentError(f"not a {contract.__name__}: {explain(error)}") from error

    return decode


def explain(error: ValidationError) -> str:
    """What is wrong with a message, in one line, without repeating the message."""
    items: list[Any] = list(error.errors(include_input=False))
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in items)
