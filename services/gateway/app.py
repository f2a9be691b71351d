"""The gateway: consumes facts about versions; records nothing about rituals. Its door is open also while the rest is away."""

from __future__ import annotations

from services.gateway.door import Door, open_door
from services.gateway.handlers import router
from services.gateway.reconcile import TableReader
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service


def build(context: ServiceContext) -> Service:
    assert isinstance(context.door, Door)
    return Service(TableReader(context, context.door).reconcile, checks={"table": context.door.check_table})


app = App("gateway", router, build, open_door)
