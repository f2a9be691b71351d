"""Which request gets the answer to an intent."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.harvester.replies import RequestReplies

BODY = b'{"persona": "scribe", "id": "mine"}'
ANSWER: dict[str, object] = {"ritual": "r"}


class Bus(Client):
    """Keeps the subjects that were answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[str] = []

    async def publish(self, subject: str, *_: Any, **__: Any) -> None:
        self.answered.append(subject)


async def test_a_request_that_was_sent_again_is_answered_although_the_message_of_an_earlier_one_was_lost() -> None:
    bus = Bus()
    replies = RequestReplies(bus, "training.intent")
    for number in range(3):
        await replies.note(Msg(bus, subject="training.intent", reply=f"inbox.{number}", data=BODY))
        if number > 0:  # the first was noted, and never stored
            await replies.answer(BODY, ANSWER)

    assert bus.answered == ["inbox.1", "inbox.2"]


async def test_an_answer_that_is_there_before_its_request_is_noted_is_given_to_it() -> None:
    bus = Bus()
    replies = RequestReplies(bus, "training.intent")

    assert not await replies.answer(BODY, ANSWER)
    await replies.note(Msg(bus, subject="training.intent", reply="inbox.0", data=BODY))

    assert bus.answered == ["inbox.0"]
