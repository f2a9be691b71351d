"""Handlers of the verifier: a forged adapter starts its evaluation."""

from __future__ import annotations

from shared.contracts.forge import AdapterForged
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("verifier")


@router.consume(AdapterForged)
async def adapter_forged(fact: AdapterForged, service: InContext) -> None:
    service.wake()
