"""Replies of our HTTP servers."""

from __future__ import annotations

import json

import pytest

from shared.asgi.replies import Message, error, reply


@pytest.mark.parametrize("close", [False, True])
async def test_a_client_that_may_ask_again_later_keeps_its_connection(close: bool) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await reply(send, 503, error("it is away", "engine_away"), retry_after_s=0.2, close=close)

    start, body = sent
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"], b"connection" in headers) == (503, b"1", close)
    assert json.loads(body["body"])["error"]["code"] == "engine_away"
