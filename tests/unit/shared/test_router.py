"""The subscribers of every service, as FastStream makes them."""

from __future__ import annotations

import pytest
from faststream import AckPolicy

from deploy.services import SERVICES, load_app


@pytest.mark.parametrize("service", SERVICES)
def test_no_subscriber_acknowledges_or_replies_by_itself(service: str) -> None:
    router = load_app(service).router

    assert len(router.subscribers) == len(router.subscriptions) > 0
    assert {subscriber.ack_policy for subscriber in router.subscribers} == {AckPolicy.MANUAL}
    assert all(subscriber._no_reply for subscriber in router.subscribers)
