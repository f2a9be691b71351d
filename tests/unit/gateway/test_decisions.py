"""Decisions that are asked for at the control socket."""

from __future__ import annotations

import pytest

from services.gateway.decisions import Decisions
from services.gateway.errors import Refusal
from shared.contracts.registry import Action, AdapterDecide

ASKED = AdapterDecide(action=Action.UNPIN, persona="scribe", champion=None, by="me")


async def test_before_the_database_and_the_bus_were_reached_neither_is_blamed_alone() -> None:
    decisions = Decisions()

    with pytest.raises(
        Refusal, match="has not reached PostgreSQL and NATS since it started: nothing was decided"
    ) as refused:
        await decisions.decide(ASKED)

    assert (refused.value.status, refused.value.code) == (503, "not_connected")
    assert not decisions._waiting
