"""Handlers of the gateway: facts after which another version may serve a persona, and answers to those who asked for one."""

from __future__ import annotations

from services.gateway.door import Door
from shared.contracts.message import Message
from shared.contracts.registry import (
    AdapterAwakened,
    AdapterDecided,
    AdapterRegistered,
    AdapterTainted,
    DecisionRefused,
)
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("gateway")


@router.consume(AdapterRegistered, AdapterAwakened, AdapterTainted)
async def wake(fact: Message, service: InContext) -> None:
    service.wake()


@router.consume(AdapterDecided, DecisionRefused)
async def answer(fact: AdapterDecided | DecisionRefused, service: InContext) -> None:
    assert isinstance(service.door, Door)
    service.door.decisions.answer(fact)
    service.wake()
