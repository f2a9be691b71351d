"""Handlers of the gateway: facts after which there is another version, or another one serves a persona."""

from __future__ import annotations

from shared.contracts.message import Message
from shared.contracts.registry import AdapterAwakened, AdapterDecided, AdapterRegistered, AdapterTainted
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("gateway")


@router.consume(AdapterRegistered, AdapterAwakened, AdapterDecided, AdapterTainted)
async def wake(fact: Message, service: InContext) -> None:
    service.wake()
